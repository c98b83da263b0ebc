//! Active health checks: one task for each upstream that asks for them, from the control runtime.

use std::future::poll_fn;
use std::sync::{Arc, Weak};

use http::{Request, StatusCode, Version};

use crate::body::Body;
use crate::config::{Health, Protocol};
use crate::forward::http1::sending::{self, Sending};
use crate::forward::http2::connection::Connection;
use crate::forward::http2::exchange::Exchange;
use crate::forward::upstream::{EndpointState, Upstream};
use crate::http1::channel::Channel;

/// Checks every endpoint of `upstream` at its interval, until no gate uses the upstream any more.
/// Runs as a local task: `tell` hears of every change.
pub async fn watch(upstream: Weak<Upstream>, tell: impl Fn(&Upstream)) {
    let mut scores: Vec<Score> = Vec::new();
    loop {
        let Some(current) = upstream.upgrade() else {
            return;
        };
        let Some(health) = current.config.health.clone() else {
            return;
        };
        scores.resize_with(current.endpoints.len(), Score::default);
        for (endpoint, score) in current.endpoints.iter().zip(&mut scores) {
            let good = is_well(endpoint, &health, current.config.protocol).await;
            if let Some(healthy) = score.judge(good, &health) {
                change(&current, endpoint, healthy);
                tell(&current);
            }
        }
        drop(current);
        tokio::time::sleep(health.interval).await;
    }
}

/// Answers in a row.
#[derive(Debug, Default)]
struct Score {
    good: u32,
    bad: u32,
}

impl Score {
    /// What the endpoint is from now on, when this answer is the one that tips it.
    fn judge(&mut self, good: bool, health: &Health) -> Option<bool> {
        if good {
            (self.good, self.bad) = (self.good + 1, 0);
            (self.good == health.healthy).then_some(true)
        } else {
            (self.good, self.bad) = (0, self.bad + 1);
            (self.bad == health.unhealthy).then_some(false)
        }
    }
}

fn change(upstream: &Upstream, endpoint: &Arc<EndpointState>, healthy: bool) {
    if endpoint.is_healthy() == healthy {
        return;
    }
    endpoint.set_healthy(healthy);
    tracing::warn!(upstream = %upstream.config.name, endpoint = %endpoint.label, healthy,
        "endpoint's health has changed");
}

/// A GET that answers 2xx or 3xx within the time.
async fn is_well(endpoint: &EndpointState, health: &Health, protocol: Protocol) -> bool {
    let asked = tokio::time::timeout(health.timeout, ask(endpoint, &health.path, protocol));
    let status = asked.await.ok().flatten();
    status.is_some_and(|status| status.is_success() || status.is_redirection())
}

async fn ask(endpoint: &EndpointState, path: &str, protocol: Protocol) -> Option<StatusCode> {
    let wire = endpoint.connector.connect(protocol).await.ok()?;
    let host = endpoint.config.authority.clone();
    let request = Request::get(path).header(http::header::USER_AGENT, "portcullis-health");
    match protocol {
        Protocol::Http1 => {
            let request = request.header(http::header::HOST, host);
            let mut request = request.body(Body::Empty).ok()?;
            let mut channel = Channel::new(wire);
            let mut sending = Sending::new(&mut request);
            sending.aim(&request, |_| ());
            let answer = poll_fn(|cx| {
                sending::poll_exchange(cx, &mut channel, &mut sending, &mut |_, _| ())
            });
            Some(answer.await.ok()?.status)
        }
        Protocol::Http2 => {
            let scheme = if endpoint.config.tls { "https" } else { "http" };
            let uri = format!("{scheme}://{}{path}", host.to_str().ok()?);
            let head = request.version(Version::HTTP_2).uri(uri).body(()).ok()?;
            let place = Connection::open(wire).await.ok()?.place();
            let mut exchange = Exchange::begin(place, head, Body::Empty).ok()?;
            let answer = poll_fn(|cx| exchange.poll_head(cx, &mut |_, _| ()));
            Some(answer.await.ok()?.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_takes_a_row_of_answers_to_change_an_endpoint() {
        let mut score = Score::default();
        let health = Health {
            path: "/".into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        };
        let judged: Vec<_> = [
            false, false, true, false, false, false, false, true, true, true,
        ]
        .map(|good| score.judge(good, &health))
        .into();
        let expected = [
            None,
            None,
            None,
            None,
            None,
            Some(false),
            None,
            None,
            Some(true),
            None,
        ];
        assert_eq!(judged, expected);
    }
}
