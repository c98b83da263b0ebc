use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use super::super::metrics::RouteId;
use super::*;

/// Whether the page has this line.
fn shows(metrics: &Metrics, line: &str) -> bool {
    metrics.render().lines().any(|known| known == line)
}

#[test]
fn the_cells_of_all_workers_are_summed_up() {
    let metrics = Metrics::new(2);
    let app = metrics.route("app");
    for worker in [0, 1, 1] {
        let cells = metrics.worker(worker);
        cells.request(app, &Method::GET, StatusCode::OK, Duration::from_millis(7));
        cells.upstream(app, Duration::from_millis(3));
        cells.refusal("token_expired");
        cells.token_cache_hit();
        cells.add(Total::BytesOut, 100);
        cells.add(Total::ConnectionsOpened, 1);
    }
    metrics.worker(0).token_cache_miss();
    metrics.worker(0).add(Total::ConnectionsClosed, 1);
    for line in [
        r#"portcullis_requests_total{route="app",method="GET",status="200"} 3"#,
        r#"portcullis_request_duration_seconds_count{route="app"} 3"#,
        r#"portcullis_request_duration_seconds_sum{route="app"} 0.021"#,
        r#"portcullis_request_duration_seconds_bucket{le="0.005",route="app"} 0"#,
        r#"portcullis_request_duration_seconds_bucket{le="0.01",route="app"} 3"#,
        r#"portcullis_request_duration_seconds_bucket{le="+Inf",route="app"} 3"#,
        r#"portcullis_upstream_duration_seconds_count{route="app"} 3"#,
        r#"portcullis_refusals_total{reason="token_expired"} 3"#,
        "portcullis_token_cache_hits_total 3",
        "portcullis_token_cache_misses_total 1",
        "portcullis_bytes_out_total 300",
        "portcullis_connections 2",
        "portcullis_connections_accepted_total 3",
    ] {
        assert!(shows(&metrics, line), "{line}\n{}", metrics.render());
    }
}

#[test]
fn what_clients_invent_shares_a_label() {
    let metrics = Metrics::new(1);
    let cells = metrics.worker(0);
    for (method, status) in [("BREW", 299), ("get", 298), ("PURGE", 999)] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let status = StatusCode::from_u16(status).expect("a status");
        cells.request(RouteId::UNMATCHED, &method, status, Duration::ZERO);
    }
    let line = r#"portcullis_requests_total{route="none",method="other",status="other"} 3"#;
    assert!(shows(&metrics, line), "{}", metrics.render());
}

#[test]
fn every_table_is_bounded() {
    let metrics = Metrics::new(1);
    let cells = metrics.worker(0);
    for at in 0..2000 {
        let route = metrics.route(&format!("route-{at}"));
        cells.request(route, &Method::GET, StatusCode::OK, Duration::ZERO);
        let word: &'static str = Box::leak(format!("word_{at}").into_boxed_str());
        cells.refusal(word);
    }
    assert_eq!(metrics.route("one-more"), RouteId::OTHER);
    assert_eq!(metrics.route("route-7"), metrics.route("route-7"));
    assert!(shows(
        &metrics,
        r#"portcullis_requests_total{route="other",method="GET",status="200"} 1490"#
    ));
    assert!(shows(
        &metrics,
        r#"portcullis_refusals_total{reason="other"} 1937"#
    ));
}

#[test]
fn open_streams_are_counted_by_kind_and_their_ends_by_reason() {
    let metrics = Metrics::new(2);
    let app = metrics.route("app");
    for worker in 0..2 {
        let cells = metrics.worker(worker);
        cells.stream_open(app, Kind::Sse);
        cells.stream_open(app, Kind::Websocket);
        cells.stream_close(app, Kind::Websocket, "auth_expired");
    }
    for line in [
        r#"portcullis_streams{route="app",kind="sse"} 2"#,
        r#"portcullis_streams{route="app",kind="websocket"} 0"#,
        r#"portcullis_stream_ends_total{reason="auth_expired"} 2"#,
    ] {
        assert!(shows(&metrics, line), "{line}\n{}", metrics.render());
    }
}

#[test]
fn parts_are_asked_at_each_scrape_and_the_latest_of_a_name_answers() {
    let metrics = Metrics::new(1);
    let help = "Age of the keys";
    let age = Arc::new(AtomicU64::new(5));
    let read = age.clone();
    let labels = [("issuer", "pro\"ject")];
    let name = "portcullis_jwks_age_seconds";
    let old = metrics.gauge(name, help, &labels, move || {
        read.load(Ordering::Relaxed) as f64
    });
    let line =
        |figure: &str| format!(r#"portcullis_jwks_age_seconds{{issuer="pro\"ject"}} {figure}"#);
    assert!(shows(&metrics, &line("5.0")), "{}", metrics.render());
    age.store(6, Ordering::Relaxed);
    assert!(shows(&metrics, &line("6.0")));

    let new = metrics.gauge(name, help, &labels, || 7.0);
    assert!(shows(&metrics, &line("7.0")));
    assert!(!shows(&metrics, &line("6.0")));
    drop(new);
    assert!(
        shows(&metrics, &line("6.0")),
        "a reload that is given up changes nothing"
    );
    drop(old);
    assert!(!metrics.render().contains(name));
}

#[test]
fn a_family_is_described_once_and_nothing_known_shows_nothing() {
    let metrics = Metrics::new(1);
    let name = "portcullis_upstream_endpoint_up";
    let help = "Whether the endpoint is up";
    let _one = metrics.gauge(name, help, &[("upstream", "a")], || 1.0);
    let _two = metrics.gauge(name, help, &[("upstream", "b")], || f64::NAN);
    let _lines = metrics.counter("portcullis_log_lines_dropped", "Lines dropped", &[], || 3.0);
    let page = metrics.render();
    assert_eq!(
        page.matches("# TYPE portcullis_upstream_endpoint_up gauge")
            .count(),
        1
    );
    assert!(!page.contains(r#"upstream="b""#));
    assert!(
        shows(&metrics, "portcullis_log_lines_dropped_total 3.0"),
        "{page}"
    );
    assert!(page.ends_with("# EOF\n"));
}
