//! An upstream and its endpoints: which one takes the next request, and which are out for now.
//! Shared by all workers and read-mostly; the connections themselves are each worker's (`pool.rs`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::config::{self, Balance};
use crate::forward::connect::{Connector, TlsError};
use crate::lasting;
use crate::observe::sparing::Sparing;

/// A service behind the gateway, compiled.
pub struct Upstream {
    /// Its configuration.
    pub config: config::Upstream,
    /// Its servers.
    pub endpoints: Vec<Arc<EndpointState>>,
    next: AtomicUsize,
}

/// One server of an upstream: how to reach it and how it fares.
pub struct EndpointState {
    /// Unique in the process; the key of each worker's pool.
    pub id: usize,
    /// What logs and metrics call it: `host:port` or the socket's path.
    pub label: &'static str,
    /// Its place in the configuration.
    pub config: config::Endpoint,
    /// Opens connections to it.
    pub connector: Connector,
    /// Requests under way; kept only where the balance asks for it.
    pub in_flight: AtomicU32,
    healthy: AtomicBool,
    failures: AtomicU32,
    /// Milliseconds since `born`; 0: not ejected.
    ejected_until: AtomicU64,
    born: Instant,
    /// Lines that say that it cannot be reached.
    pub unreachable: Sparing,
}

/// Upstreams outlive a configuration: an unchanged one keeps its health and its pools at a reload.
#[derive(Default)]
pub struct Upstreams {
    known: Mutex<Vec<Weak<Upstream>>>,
}

impl Upstreams {
    /// The running upstream of exactly this configuration, or a new one.
    ///
    /// # Errors
    /// When its TLS settings cannot be used.
    pub fn obtain(&self, config: &config::Upstream) -> Result<Arc<Upstream>, TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|upstream| upstream.strong_count() > 0);
        if let Some(running) = known
            .iter()
            .filter_map(Weak::upgrade)
            .find(|upstream| upstream.config == *config)
        {
            return Ok(running);
        }
        let upstream = Arc::new(Upstream::build(config)?);
        known.push(Arc::downgrade(&upstream));
        Ok(upstream)
    }
}

impl Upstream {
    fn build(config: &config::Upstream) -> Result<Self, TlsError> {
        let endpoints = config
            .endpoints
            .iter()
            .map(|endpoint| EndpointState::build(config, endpoint).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            config: config.clone(),
            endpoints,
            next: AtomicUsize::new(0),
        })
    }

    /// The endpoint for the next request, passing over those in `tried` while there are others.
    /// `None` when health checks have taken all of them out. Ejected ones are used when nothing else
    /// is left: a guess that a server is down must not take the whole service down.
    pub fn pick(&self, tried: &[usize]) -> Option<&Arc<EndpointState>> {
        if let [only] = &self.endpoints[..] {
            return only.healthy.load(Ordering::Relaxed).then_some(only);
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let ranked = |endpoint: &EndpointState| {
            let rank = u8::from(tried.contains(&endpoint.id)) * 2 + u8::from(endpoint.is_ejected());
            let load = match self.config.balance {
                Balance::RoundRobin => 0,
                Balance::LeastRequests => endpoint.in_flight.load(Ordering::Relaxed),
            };
            (rank, load)
        };
        (0..self.endpoints.len())
            .map(|step| &self.endpoints[start.wrapping_add(step) % self.endpoints.len()])
            .filter(|endpoint| endpoint.healthy.load(Ordering::Relaxed))
            .min_by_key(|endpoint| ranked(endpoint))
    }

    /// Whether any endpoint may be used.
    pub fn is_reachable(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.healthy.load(Ordering::Relaxed) && !endpoint.is_ejected())
    }

    /// A connection failed: enough of those in a row eject the endpoint for a while.
    pub fn failed(&self, endpoint: &EndpointState) {
        let Some(eject) = &self.config.eject else {
            return;
        };
        let failures = endpoint.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= eject.failures && !endpoint.is_ejected() {
            endpoint.eject(eject.duration);
            tracing::warn!(upstream = %self.config.name, endpoint = %endpoint.label, failures, "endpoint ejected");
        }
    }
}

impl EndpointState {
    fn build(config: &config::Upstream, endpoint: &config::Endpoint) -> Result<Self, TlsError> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let connector = Connector::build(endpoint, &config.tls, config.connect_timeout)?;
        let label = match &endpoint.address {
            config::EndpointAddress::Tcp(host, port) => format!("{host}:{port}"),
            config::EndpointAddress::Unix(path) => path.display().to_string(),
        };
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            label: lasting::text(&label),
            config: endpoint.clone(),
            connector,
            in_flight: AtomicU32::new(0),
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            born: Instant::now(),
            unreachable: Sparing::default(),
        })
    }

    /// It answered: failures are forgotten. Writes only where there was something to forget.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// What the health checks say of it.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Whether the health checks let it be used.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    fn eject(&self, duration: Duration) {
        let until = self.born.elapsed() + duration;
        self.ejected_until
            .store(until.as_millis() as u64, Ordering::Relaxed);
    }

    fn is_ejected(&self) -> bool {
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => false,
            until => (self.born.elapsed().as_millis() as u64) < until,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Eject, Endpoint, EndpointAddress, Protocol, UpstreamTls};

    pub fn upstream(count: u16, balance: Balance) -> Upstream {
        let endpoints = (0..count)
            .map(|port| Endpoint {
                address: EndpointAddress::Tcp("127.0.0.1".into(), 1000 + port),
                tls: false,
                authority: http::HeaderValue::from_static("x"),
            })
            .collect();
        Upstream::build(&config::Upstream {
            name: "app".into(),
            endpoints,
            protocol: Protocol::Http1,
            balance,
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            stream_idle_timeout: None,
            pool_idle_timeout: Duration::from_secs(1),
            pool_max_idle: 1,
            retries: 1,
            health: None,
            eject: Some(Eject {
                failures: 2,
                duration: Duration::from_secs(60),
            }),
            assertion: false,
            tls: UpstreamTls::default(),
        })
        .expect("a plain upstream builds")
    }

    /// The places of the endpoints that are picked. Ids are the process's: other tests take some between.
    fn picks(upstream: &Upstream, count: usize) -> Vec<usize> {
        let place = |id| {
            upstream
                .endpoints
                .iter()
                .position(|endpoint| endpoint.id == id)
        };
        (0..count)
            .filter_map(|_| place(upstream.pick(&[])?.id))
            .collect()
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        assert_eq!(
            picks(&upstream(3, Balance::RoundRobin), 6),
            [0, 1, 2, 0, 1, 2]
        );
    }

    #[test]
    fn least_requests_takes_the_idlest() {
        let upstream = upstream(2, Balance::LeastRequests);
        upstream.endpoints[0].in_flight.store(3, Ordering::Relaxed);
        assert_eq!(picks(&upstream, 3), [1, 1, 1]);
    }

    #[test]
    fn an_unhealthy_endpoint_is_passed_over_and_all_unhealthy_is_none() {
        let upstream = upstream(2, Balance::RoundRobin);
        upstream.endpoints[0].set_healthy(false);
        assert_eq!(picks(&upstream, 2), [1, 1]);
        upstream.endpoints[1].set_healthy(false);
        assert!(upstream.pick(&[]).is_none());
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_forgives() {
        let upstream = upstream(2, Balance::RoundRobin);
        let bad = &upstream.endpoints[0];
        upstream.failed(bad);
        assert!(!bad.is_ejected());
        upstream.failed(bad);
        assert_eq!(picks(&upstream, 2), [1, 1]);
        bad.succeeded();
        assert_eq!(picks(&upstream, 2).len(), 2);
        assert!(!bad.is_ejected());
    }

    #[test]
    fn an_ejected_endpoint_is_used_when_nothing_else_is_left() {
        let upstream = upstream(1, Balance::RoundRobin);
        upstream.failed(&upstream.endpoints[0]);
        upstream.failed(&upstream.endpoints[0]);
        assert_eq!(picks(&upstream, 1), [0]);
        assert!(!upstream.is_reachable());
    }

    #[test]
    fn a_retry_goes_to_another_endpoint_while_there_is_one() {
        let upstream = upstream(2, Balance::RoundRobin);
        let (first, second) = (upstream.endpoints[0].id, upstream.endpoints[1].id);
        for _ in 0..4 {
            assert_eq!(
                upstream.pick(&[first]).map(|endpoint| endpoint.id),
                Some(second)
            );
        }
    }
}
