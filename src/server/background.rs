//! What goes on beside the requests: health checks, and what the parts report to the readiness board and the
//! metrics. Begun anew with each gate; what belonged to the old one ends with it.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::forward::health;
use crate::forward::upstream::Upstream;
use crate::gate::Gate;
use crate::observe::metrics::{Metrics, Registration};
use crate::observe::readiness::Reporter;
use crate::resources::Resources;
use crate::server::Station;

/// The reports of one gate; dropping them takes them off the board and out of the metrics.
struct Reports {
    keys: Vec<(Arc<str>, Reporter)>,
    upstreams: Vec<(Arc<Upstream>, Reporter)>,
    _figures: Vec<Registration>,
}

/// Keeps the board and the health checks in step with the current gate, until the process ends.
pub async fn run(station: Arc<Station>) {
    let mut watched: Vec<(Weak<Upstream>, JoinHandle<()>)> = Vec::new();
    let mut current: Option<(Weak<Gate>, Reports)> = None;
    let nudged = Rc::new(tokio::sync::Notify::new());
    loop {
        let gate = station.gate.load_full();
        let stale = current
            .as_ref()
            .is_none_or(|(known, _)| known.as_ptr() != Arc::as_ptr(&gate));
        if stale {
            let reports = Reports::of(&gate, &station.resources);
            current = Some((Arc::downgrade(&gate), reports));
            watch_upstreams(&gate, &mut watched, &nudged);
        }
        if let Some((_, reports)) = &current {
            reports.tell(&gate);
        }
        drop(gate);
        let pause = tokio::time::sleep(Duration::from_millis(500));
        tokio::select! {
            () = pause => {}
            () = nudged.notified() => {}
            () = station.reloaded.notified() => {}
        }
    }
}

fn watch_upstreams(
    gate: &Gate,
    watched: &mut Vec<(Weak<Upstream>, JoinHandle<()>)>,
    nudged: &Rc<tokio::sync::Notify>,
) {
    watched.retain(|(upstream, task)| upstream.strong_count() > 0 && !task.is_finished());
    for upstream in gate.upstreams() {
        let known = watched
            .iter()
            .any(|(known, _)| known.as_ptr() == Arc::as_ptr(upstream));
        if upstream.config.health.is_some() && !known {
            let nudged = Rc::clone(nudged);
            let task = health::watch(Arc::downgrade(upstream), move |_| nudged.notify_one());
            watched.push((Arc::downgrade(upstream), tokio::task::spawn_local(task)));
        }
    }
}

impl Reports {
    fn of(gate: &Arc<Gate>, resources: &Resources) -> Self {
        let board = &resources.board;
        let keys = gate
            .verifier()
            .key_status()
            .map(|(issuer, _)| (Arc::clone(issuer), board.part(format!("issuer:{issuer}"))))
            .collect();
        let upstreams = gate
            .upstreams()
            .into_iter()
            .map(|upstream| {
                let name = format!("upstream:{}", upstream.config.name);
                (Arc::clone(upstream), board.part(name))
            })
            .collect();
        Self {
            keys,
            upstreams,
            _figures: figures(gate, &resources.metrics),
        }
    }

    fn tell(&self, gate: &Gate) {
        for (issuer, status) in gate.verifier().key_status() {
            if let Some((_, reporter)) = self.keys.iter().find(|(name, _)| name == issuer) {
                match status.loaded {
                    true => reporter.ready(),
                    false => reporter.not_ready(
                        status
                            .last_error
                            .map_or_else(|| "no keys yet".to_owned(), |error| error.to_string()),
                    ),
                }
            }
        }
        for (upstream, reporter) in &self.upstreams {
            match upstream.is_reachable() {
                true => reporter.ready(),
                false => reporter.not_ready("no endpoint is well"),
            }
        }
    }
}

/// Figures that are asked for at each scrape.
fn figures(gate: &Arc<Gate>, metrics: &Metrics) -> Vec<Registration> {
    let mut figures = Vec::new();
    for (issuer, _) in gate.verifier().key_status() {
        let (gate, name) = (Arc::downgrade(gate), Arc::clone(issuer));
        figures.push(metrics.gauge(
            "portcullis_jwks_age_seconds",
            "Time since the keys of an issuer were last fetched.",
            &[("issuer", issuer)],
            move || age(&gate, &name).map_or(f64::NAN, |age| age.as_secs_f64()),
        ));
    }
    for upstream in gate.upstreams() {
        for endpoint in &upstream.endpoints {
            let held = Arc::clone(endpoint);
            figures.push(metrics.gauge(
                "portcullis_upstream_endpoint_up",
                "Whether an endpoint may be used.",
                &[
                    ("upstream", &upstream.config.name),
                    ("endpoint", endpoint.label),
                ],
                move || f64::from(u8::from(held.is_healthy())),
            ));
        }
    }
    figures
}

fn age(gate: &Weak<Gate>, issuer: &Arc<str>) -> Option<Duration> {
    let gate = gate.upgrade()?;
    let mut states = gate.verifier().key_status();
    states.find(|(name, _)| *name == issuer)?.1.age
}

/// Figures that live as long as the process.
pub fn lasting(station: &Station) -> Vec<Registration> {
    let metrics = &station.resources.metrics;
    let sink = station.resources.sink.clone();
    vec![metrics.counter(
        "portcullis_access_lines_dropped",
        "Access and audit lines that were dropped because their sink stalled.",
        &[],
        move || sink.dropped() as f64,
    )]
}
