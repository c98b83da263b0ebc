//! The metrics as Prometheus reads them: one page in the OpenMetrics text format, summed over the workers.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::cells::{BOUNDS, Count, Histogram, METHODS, OVERFLOW, RouteCells, STATUSES, Words};
use super::metrics::{Asked, Cells, Key, Meaning, Metrics, Total, lock};
use super::{Kind, process};

/// The type of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Metrics {
    /// The page.
    pub fn render(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut page = String::with_capacity(8 * 1024);
        // Writing to a String can not fail, and nothing of ours does.
        let _ = text::encode(&mut page, &registry);
        page
    }

    fn sum(&self, count: impl Fn(&Cells) -> u64) -> u64 {
        self.0.workers.iter().map(|cells| count(cells)).sum()
    }

    fn total(&self, total: Total) -> u64 {
        self.sum(|cells| cells.totals[total as usize].get())
    }

    /// What `pick` shows of the route at `place`, from each worker that has seen it.
    fn of_route<'a, T: 'a>(
        &'a self,
        place: usize,
        pick: impl Fn(&'a RouteCells) -> Option<&'a T>,
    ) -> Vec<&'a T> {
        let cells = self
            .0
            .workers
            .iter()
            .filter_map(|cells| cells.routes[place].get());
        cells.filter_map(|cells| pick(cells)).collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page { encoder };
        let routes = lock(&self.0.routes).clone();
        page.requests(self, &routes)?;
        page.durations(self, &routes, &REQUEST_DURATIONS)?;
        page.durations(self, &routes, &UPSTREAM_DURATIONS)?;
        page.streams(self, &routes)?;
        page.words(self, &REFUSALS)?;
        page.words(self, &STREAM_ENDS)?;
        page.totals(self)?;
        page.asked(self)?;
        process::encode(&mut page.encoder)
    }
}

struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// A histogram by route.
struct Durations {
    name: &'static str,
    help: &'static str,
    pick: fn(&RouteCells) -> &Histogram,
}

/// A counter by word.
struct Reasons {
    name: &'static str,
    help: &'static str,
    pick: fn(&Cells) -> &Words,
}

impl Page<'_> {
    fn requests(&mut self, metrics: &Metrics, routes: &[Box<str>]) -> fmt::Result {
        let help = "Requests answered, and streams opened";
        let name = "portcullis_requests";
        let mut family = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (place, route) in routes.iter().enumerate() {
            for (at, method) in METHODS.iter().enumerate() {
                let workers = metrics.of_route(place, |cells| cells.requests[at].get());
                for status in 0..=STATUSES.len() {
                    let count: u64 = workers.iter().map(|counts| counts[status].get()).sum();
                    if count == 0 {
                        continue;
                    }
                    let code = STATUSES.get(status).map(u16::to_string);
                    let labels = [
                        ("route", &**route),
                        ("method", method),
                        ("status", code.as_deref().unwrap_or(OVERFLOW)),
                    ];
                    family
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }

    fn durations(
        &mut self,
        metrics: &Metrics,
        routes: &[Box<str>],
        what: &Durations,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self
            .encoder
            .encode_descriptor(what.name, what.help, None, kind)?;
        for (place, route) in routes.iter().enumerate() {
            let workers = metrics.of_route(place, |cells| Some((what.pick)(cells)));
            let buckets: Vec<(f64, u64)> = BOUNDS
                .into_iter()
                .chain([f64::INFINITY])
                .enumerate()
                .map(|(at, bound)| (bound, workers.iter().map(|all| all.buckets[at].get()).sum()))
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            if count == 0 {
                continue;
            }
            let nanos: u64 = workers.iter().map(|all| all.nanos.get()).sum();
            family
                .encode_family(&[("route", &**route)])?
                .encode_histogram::<NoLabelSet>(nanos as f64 / 1e9, count, &buckets, None)?;
        }
        Ok(())
    }

    fn streams(&mut self, metrics: &Metrics, routes: &[Box<str>]) -> fmt::Result {
        let help = "Streams open now";
        let name = "portcullis_streams";
        let mut family = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (place, route) in routes.iter().enumerate() {
            for kind in Kind::ALL {
                let at = kind as usize;
                let all = metrics.of_route(place, Some);
                let sum = |pick: fn(&RouteCells) -> &[Count]| -> u64 {
                    all.iter().map(|cells| pick(cells)[at].get()).sum()
                };
                // Closed first: a stream that closes in between must not make the figure negative.
                let closed = sum(|cells| &cells.streams_closed);
                let opened = sum(|cells| &cells.streams_opened);
                if opened > 0 {
                    family
                        .encode_family(&[("route", &**route), ("kind", kind.word())])?
                        .encode_gauge(&opened.saturating_sub(closed))?;
                }
            }
        }
        Ok(())
    }

    fn words(&mut self, metrics: &Metrics, what: &Reasons) -> fmt::Result {
        let mut sums = BTreeMap::new();
        for cells in &metrics.0.workers {
            for (word, count) in &(what.pick)(cells).0 {
                if let Some(word) = word.get().filter(|_| count.get() > 0) {
                    *sums.entry(*word).or_insert(0) += count.get();
                }
            }
        }
        let kind = MetricType::Counter;
        let mut family = self
            .encoder
            .encode_descriptor(what.name, what.help, None, kind)?;
        for (word, sum) in sums {
            family
                .encode_family(&[("reason", word)])?
                .encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
        }
        Ok(())
    }

    fn totals(&mut self, metrics: &Metrics) -> fmt::Result {
        for (total, name, help) in TOTALS {
            self.encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&metrics.total(total), None)?;
        }
        let closed = metrics.total(Total::ConnectionsClosed);
        let open = metrics
            .total(Total::ConnectionsOpened)
            .saturating_sub(closed);
        let help = "Downstream connections open now";
        self.encoder
            .encode_descriptor("portcullis_connections", help, None, MetricType::Gauge)?
            .encode_gauge(&open)
    }

    /// The figures that other parts are asked for; the lock is not held while they answer.
    fn asked(&mut self, metrics: &Metrics) -> fmt::Result {
        let asked: BTreeMap<Key, Asked> = lock(&metrics.0.asked)
            .iter()
            // Of one name and labels the latest comes last, and stays.
            .map(|((key, _turn), asked)| (key.clone(), asked.clone()))
            .collect();
        let asked: Vec<_> = asked.into_iter().collect();
        for family in asked.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
            let Some(((name, _), first)) = family.first() else {
                continue;
            };
            let kind = match first.meaning {
                Meaning::Gauge => MetricType::Gauge,
                Meaning::Counter => MetricType::Counter,
            };
            let mut page = self
                .encoder
                .encode_descriptor(name, first.help, None, kind)?;
            for ((_, labels), asked) in family {
                let figure = (asked.read)();
                if figure.is_nan() {
                    continue;
                }
                if labels.is_empty() {
                    push_figure(&mut page, first.meaning, figure)?;
                    continue;
                }
                push_figure(&mut page.encode_family(labels)?, first.meaning, figure)?;
            }
        }
        Ok(())
    }
}

fn push_figure(page: &mut MetricEncoder<'_>, meaning: Meaning, figure: f64) -> fmt::Result {
    match meaning {
        Meaning::Gauge => page.encode_gauge(&figure),
        Meaning::Counter => page.encode_counter::<NoLabelSet, _, f64>(&figure, None),
    }
}

const REQUEST_DURATIONS: Durations = Durations {
    name: "portcullis_request_duration_seconds",
    help: "From the head of a request to the end of its answer, or to the opening of a stream",
    pick: |cells| &cells.durations,
};

const UPSTREAM_DURATIONS: Durations = Durations {
    name: "portcullis_upstream_duration_seconds",
    help: "From the request to the upstream's first byte",
    pick: |cells| &cells.upstream_durations,
};

const REFUSALS: Reasons = Reasons {
    name: "portcullis_refusals",
    help: "Requests refused",
    pick: |cells| &cells.refusals,
};

const STREAM_ENDS: Reasons = Reasons {
    name: "portcullis_stream_ends",
    help: "Streams ended",
    pick: |cells| &cells.ends,
};

#[rustfmt::skip]
const TOTALS: [(Total, &str, &str); 8] = [
    (Total::TokenCacheHits, "portcullis_token_cache_hits", "Tokens found verified in a cache"),
    (Total::TokenCacheMisses, "portcullis_token_cache_misses", "Tokens that had to be verified"),
    (Total::ConnectionsOpened, "portcullis_connections_accepted", "Downstream connections accepted"),
    (Total::BytesIn, "portcullis_bytes_in", "Bytes of request bodies and of messages from clients"),
    (Total::BytesOut, "portcullis_bytes_out", "Bytes of answer bodies and of messages to clients"),
    (Total::UpstreamConnects, "portcullis_upstream_connects", "Connections opened to upstreams"),
    (Total::UpstreamConnectFailures, "portcullis_upstream_connect_failures", "Connections to upstreams that failed to open"),
    (Total::UpstreamRetries, "portcullis_upstream_retries", "Requests tried again on another connection"),
];

#[cfg(test)]
mod tests;
