//! Reads `[[upstream]]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::check::seconds;
use super::named::Named;
use super::raw::Table;
use super::units::{self, Wrong};
use super::{HostPattern, pattern, secrets};

/// `[[upstream]]`: a service behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Upstream {
    pub name: Arc<str>,
    pub endpoints: Vec<Endpoint>,
    pub protocol: Protocol,
    pub balance: Balance,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    pub idle_timeout: Duration,
    /// `None`: no limit.
    pub stream_idle_timeout: Option<Duration>,
    pub pool_idle_timeout: Duration,
    pub pool_max_idle: usize,
    pub retries: u32,
    pub health: Option<Health>,
    /// `None`: never ejected.
    pub eject: Option<Eject>,
    /// Whether its routes send it a signed assertion, unless they say otherwise.
    pub assertion: bool,
    pub tls: UpstreamTls,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How it is reached.
    pub address: EndpointAddress,
    /// TLS on top, with this server name unless `[upstream.tls] server_name` says another.
    pub tls: bool,
    /// The `Host` that `host_header = "upstream"` sends: `host:port` without a default port; `localhost` for unix sockets.
    pub authority: HeaderValue,
}

/// Where an endpoint stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// A host name or IP address, and a port. Names are resolved at each connect.
    Tcp(Box<str>, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Http1,
    Http2,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Balance {
    RoundRobin,
    LeastRequests,
}

/// `[upstream.health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Health {
    pub path: Box<str>,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy: u32,
    pub unhealthy: u32,
}

/// `[upstream.eject]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Eject {
    pub failures: u32,
    pub duration: Duration,
}

/// `[upstream.tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM text of the certificates to trust; `None`: the machine's roots.
    pub ca: Option<Arc<str>>,
    /// The name to verify; `None`: the endpoint's host.
    pub server_name: Option<Box<str>>,
}

/// Reads every `[[upstream]]`.
pub(super) fn upstreams(top: &mut Table<'_>) -> Named<(usize, Upstream)> {
    Named::read(top.tables("upstream"), |table, name| {
        Some((table.line, upstream(table, name)?))
    })
}

fn upstream(table: &mut Table<'_>, name: Box<str>) -> Option<Upstream> {
    let protocols = [("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let balances = [
        ("round_robin", Balance::RoundRobin),
        ("least_requests", Balance::LeastRequests),
    ];
    let endpoints = endpoints(table);
    let health = table.has("health");
    let health = health_check(table.table("health")).filter(|_| health);
    let stream_idle_timeout = table.duration_or_zero("stream_idle_timeout");
    let upstream = Upstream {
        name: name.into(),
        endpoints: Vec::new(),
        protocol: table
            .choice("protocol", &protocols)
            .unwrap_or(Protocol::Http1),
        balance: table
            .choice("balance", &balances)
            .unwrap_or(Balance::RoundRobin),
        connect_timeout: table.duration("connect_timeout").unwrap_or(seconds(5)),
        first_byte_timeout: table.duration("first_byte_timeout").unwrap_or(seconds(60)),
        idle_timeout: table.duration("idle_timeout").unwrap_or(seconds(300)),
        stream_idle_timeout: stream_idle_timeout.filter(|timeout| !timeout.is_zero()),
        pool_idle_timeout: table.duration("pool_idle_timeout").unwrap_or(seconds(30)),
        pool_max_idle: table.integer("pool_max_idle", 0..=100_000).unwrap_or(64),
        retries: table.integer("retries", 0..=10).unwrap_or(1),
        health,
        eject: eject(table.table("eject")),
        assertion: table.flag("assertion").unwrap_or(false),
        tls: tls(table.table("tls")),
    };
    Some(Upstream {
        endpoints: endpoints?,
        ..upstream
    })
}

fn endpoints(table: &mut Table<'_>) -> Option<Vec<Endpoint>> {
    let endpoints = table.texts("endpoints", endpoint);
    table.require("endpoints", "[\"http://127.0.0.1:8000\"]");
    let endpoints = endpoints?;
    if endpoints.is_empty() {
        table.problem("endpoints", "`endpoints` is empty", "name one at least");
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        if endpoints[..at].contains(endpoint) {
            table.problem("endpoints", "`endpoints` names one endpoint twice", "");
        }
    }
    Some(endpoints)
}

fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Endpoint {
            address: EndpointAddress::Unix(units::unix_path(path)?),
            tls: false,
            authority: HeaderValue::from_static("localhost"),
        });
    }
    let wrong = || {
        Wrong::new(
            "is not an endpoint",
            "write \"http://host:port\", \"https://host:port\" or \"unix:/path\"",
        )
    };
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    let tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong()),
    };
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !bare {
        return Err(Wrong::new(
            "holds more than scheme, host and port",
            "leave user, path and query out: the path that is matched is the path that is sent",
        ));
    }
    let host = url.host_str().ok_or_else(wrong)?;
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let port = url.port_or_known_default().filter(|port| *port > 0);
    Ok(Endpoint {
        address: EndpointAddress::Tcp(
            host.trim_matches(['[', ']']).into(),
            port.ok_or_else(wrong)?,
        ),
        tls,
        authority: HeaderValue::try_from(authority).map_err(|_| wrong())?,
    })
}

fn health_check(mut table: Table<'_>) -> Option<Health> {
    let path = table.text("path", pattern::request_target);
    let health = Health {
        path: "/".into(),
        interval: table.duration("interval").unwrap_or(seconds(10)),
        timeout: table.duration("timeout").unwrap_or(seconds(2)),
        healthy: table.integer("healthy", 1..=1000).unwrap_or(2),
        unhealthy: table.integer("unhealthy", 1..=1000).unwrap_or(3),
    };
    if table.is_given() {
        table.require("path", "\"/health\"");
    }
    Some(Health {
        path: path?,
        ..health
    })
}

fn eject(mut table: Table<'_>) -> Option<Eject> {
    let eject = Eject {
        failures: table.integer("failures", 0..=1_000_000).unwrap_or(5),
        duration: table.duration("duration").unwrap_or(seconds(10)),
    };
    (eject.failures > 0).then_some(eject)
}

fn tls(mut table: Table<'_>) -> UpstreamTls {
    let report = table.report;
    let ca = table.text("ca_file", |name| secrets::certificates(report, name));
    let server_name = table.text("server_name", |name| match units::host(name)? {
        HostPattern::Exact(name) => Ok(name),
        HostPattern::Suffix(_) => Err(Wrong::new("is not one name", "leave *. out")),
    });
    UpstreamTls {
        ca: ca.map(|(_, text)| text),
        server_name,
    }
}
