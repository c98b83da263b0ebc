//! From the file's tables to a `Config`, or to every `Problem` at once. Each part reads its own table
//! (`headers.rs`, `issuer.rs`, `upstream.rs`, `route.rs`, `trial.rs`); a default stands where its key is read.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::problem::{Problems, Report};
use super::raw::Table;
use super::source::Tree;
use super::units;
use super::{
    Admin, Config, Errors, Listen, Log, LogFormat, Server, ServerTls, Source, Store, StorePlace,
    Tokens, accounts, apis, assertion, headers, issuer, jobs, limits, own, pattern, redis, route,
    secrets, store, tickets, trial, upstream,
};
use crate::refusal::Language;
use crate::refusal::style::ErrorStyle;
use crate::secret::Secret;

/// `tree` as a configuration.
pub(super) fn check(tree: &Tree, report: Report) -> Result<Config, Problems> {
    let config = file(Table::top(tree, &report));
    let (files, warnings) = report.end()?;
    Ok(Config {
        files,
        warnings,
        ..config
    })
}

/// Reads the whole file. What could not be read was reported, and its place is filled with anything.
pub(super) fn file(mut top: Table<'_>) -> Config {
    let server = server(top.table("server"));
    let admin = admin(top.table("admin"));
    let log = log(top.table("log"));
    let errors = errors(top.table("errors"));
    let sources = credentials(top.table("credentials"));
    let tokens = tokens(top.table("tokens"), server.workers);
    let tickets = tickets::tickets(top.table("tickets"));
    let mut issuers = issuer::issuers(&mut top);
    let apis = apis::apis(top.table("api"));
    let store = store::store(top.table("store"));
    let shared = matches!(&store, Some(it) if matches!(it.place, StorePlace::Postgres(_)));
    let redis = redis::redis(top.table("redis"));
    let accounts = accounts::accounts(top.table("accounts"), apis.clone(), shared);
    let store = store.or_else(|| accounts.is_some().then(|| Store::beside(top.report)));
    accounts::join(&top, accounts.as_ref(), &apis, &mut issuers);
    let (assertion, assertion_header) = assertion::assertion(top.table("assertion"));
    let identity = top.table("identity");
    let identity = headers::identity(identity, (&sources, assertion_header), &issuers);
    let limits = limits::limits(top.table("limits"), &issuers, redis.is_some());
    let upstreams = upstream::upstreams(&mut top);
    let signers = own::Signers {
        assertion: assertion.as_ref(),
        accounts: accounts.as_ref(),
        tickets: tickets.is_some(),
        verifies: issuers.len() > 0 && !sources.is_empty(),
    };
    let common = route::Common {
        max_body: server.max_body,
        errors,
        sources: &sources,
        identity: &identity,
        own: own::Own::of(&server, signers),
        apis: &apis,
        signs: assertion.is_some(),
        issuers: &issuers,
        upstreams: &upstreams,
    };
    let routes = route::routes(&mut top, &common);
    let jobs = jobs::jobs(top.table("jobs"));
    let keeps = routes.iter().any(super::Route::knows_jobs);
    let store = store.or_else(|| keeps.then(|| Store::beside(top.report)));
    let mut own = apis::routes(&top, &common);
    own.extend(own::routes(&top, &common));
    let known: Vec<&str> = routes
        .iter()
        .chain(&own)
        .map(|route| &*route.name)
        .collect();
    let tests = trial::trials(&mut top, &issuers, &known);
    Config {
        server,
        admin,
        log,
        errors,
        sources,
        identity,
        assertion,
        tokens,
        limits,
        tickets,
        store,
        jobs,
        redis,
        accounts,
        issuers: issuers.into_values(),
        upstreams: upstreams
            .into_values()
            .into_iter()
            .map(|(_, upstream)| upstream)
            .collect(),
        routes,
        own,
        tests,
        files: Vec::new(),
        warnings: Vec::new(),
    }
}

fn server(mut table: Table<'_>) -> Server {
    let tls = table.has("tls");
    let tls_table = table.table("tls");
    let mut http2 = table.table("http2");
    let max_body = table.size("max_body", 0..=1 << 40);
    Server {
        listen: listen(&mut table),
        workers: match table.integer("workers", 0..=1024) {
            None | Some(0) => std::thread::available_parallelism().map_or(1, usize::from),
            Some(workers) => workers,
        },
        hosts: table.texts("hosts", units::host).unwrap_or_default(),
        trusted_proxies: table
            .texts("trusted_proxies", units::network)
            .unwrap_or_default(),
        header_timeout: table.duration("header_timeout").unwrap_or(seconds(15)),
        idle_timeout: table.duration("idle_timeout").unwrap_or(seconds(75)),
        body_timeout: table.duration("body_timeout").unwrap_or(seconds(60)),
        send_timeout: table.duration("send_timeout").unwrap_or(seconds(60)),
        min_body_rate: table.size("min_body_rate", 0..=1 << 30).unwrap_or(100),
        max_connections: table
            .integer("max_connections", 1..=10_000_000)
            .unwrap_or(50_000),
        max_header_bytes: table
            .size("max_header_bytes", 8 << 10..=1 << 20)
            .unwrap_or(64 << 10),
        max_headers: table.integer("max_headers", 10..=1000).unwrap_or(100),
        max_uri: table.size("max_uri", 256..=64 << 10).unwrap_or(16 << 10),
        max_body: max_body.unwrap_or(64 << 20),
        drain_timeout: table
            .duration_or_zero("drain_timeout")
            .unwrap_or(seconds(30)),
        public_probes: table.flag("public_probes").unwrap_or(false),
        mount: table
            .text("mount", pattern::mount)
            .unwrap_or_else(|| "/_portcullis".into()),
        verify: table.flag("verify").unwrap_or(false),
        watch: table.flag("watch").unwrap_or(true),
        tls: server_tls(tls_table).filter(|_| tls),
        max_concurrent_streams: http2
            .integer("max_concurrent_streams", 1..=100_000)
            .unwrap_or(128),
        http2_websocket: http2.flag("websocket").unwrap_or(true),
    }
}

fn listen(table: &mut Table<'_>) -> Vec<Listen> {
    let default = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)));
    let listen = table
        .texts("listen", units::listen)
        .unwrap_or_else(|| vec![default]);
    if listen.is_empty() {
        table.problem(
            "listen",
            "`listen` is empty",
            "write one address at least, or leave the key out",
        );
    }
    for (at, address) in listen.iter().enumerate() {
        let free = matches!(address, Listen::Tcp(address) if address.port() == 0);
        if !free && listen[..at].contains(address) {
            table.problem("listen", "`listen` names one address twice", "");
        }
    }
    listen
}

fn server_tls(mut table: Table<'_>) -> Option<ServerTls> {
    let versions = [("1.2", false), ("1.3", true)];
    let report = table.report;
    let tls13_only = table.choice("min_version", &versions).unwrap_or(false);
    let certificate = table.text("certificate", |name| secrets::certificates(report, name));
    let key = table.text("key", |name| secrets::private_key(report, name));
    if table.is_given() {
        table.require("certificate", "\"fullchain.pem\"");
        table.require("key", "\"privkey.pem\"");
    }
    let ((certificate, chain), (key, private)) = (certificate?, key?);
    if !secrets::is_pair(&chain, private) {
        let mend = "give the key that the first certificate of the file was made for";
        table.problem("key", "`key` does not belong to `certificate`", mend);
    }
    Some(ServerTls {
        certificate,
        key,
        tls13_only,
    })
}

fn admin(mut table: Table<'_>) -> Admin {
    let admin = Admin {
        listen: table
            .text("listen", units::address)
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9901))),
        enabled: table.flag("enabled").unwrap_or(true),
        token: table.own_secret("token", admin_token),
    };
    if admin.enabled && !admin.listen.ip().is_loopback() {
        table.warning(
            "listen",
            &format!("{} is reachable from other machines", admin.listen),
            "keep the admin listener on 127.0.0.1, or behind a firewall",
        );
    }
    admin
}

/// Long enough that nobody guesses it, and such as a header can carry.
fn admin_token(text: &str) -> Result<Secret<Box<str>>, units::Wrong> {
    let fits = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits || secrets::is_published(text) {
        return Err(units::Wrong::new(
            "is not 32 visible characters or more that nobody else knows",
            "openssl rand -base64 48, in ${PORTCULLIS_ADMIN_TOKEN}",
        ));
    }
    Ok(Secret::new(text.into()))
}

fn log(mut table: Table<'_>) -> Log {
    let formats = [
        ("auto", LogFormat::Auto),
        ("json", LogFormat::Json),
        ("human", LogFormat::Human),
    ];
    let levels = [
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    Log {
        format: table.choice("format", &formats).unwrap_or(LogFormat::Auto),
        level: table.choice("level", &levels).unwrap_or(LevelFilter::INFO),
        access: table.flag("access").unwrap_or(true),
        audit: table.flag("audit").unwrap_or(true),
        email: table.flag("email").unwrap_or(false),
    }
}

fn errors(mut table: Table<'_>) -> Errors {
    let languages = [("en", Language::En), ("zh", Language::Zh)];
    Errors {
        language: table.choice("language", &languages).unwrap_or_default(),
        style: table
            .choice("style", &STYLES)
            .unwrap_or(ErrorStyle::Envelope),
    }
}

/// The words of `style`.
pub(super) const STYLES: [(&str, ErrorStyle); 3] = [
    ("envelope", ErrorStyle::Envelope),
    ("problem", ErrorStyle::Problem),
    ("detail", ErrorStyle::Detail),
];

fn credentials(mut table: Table<'_>) -> Vec<Source> {
    sources(&mut table).unwrap_or_else(|| {
        vec![
            Source::Bearer,
            Source::Header(http::HeaderName::from_static("token")),
            Source::Header(http::HeaderName::from_static("x-session-token")),
            Source::Query("token".into()),
            Source::Query("access_token".into()),
            Source::Cookie("portcullis".into()),
            Source::Subprotocol,
        ]
    })
}

/// Reads `sources`, of `[credentials]` or of a route.
pub(super) fn sources(table: &mut Table<'_>) -> Option<Vec<Source>> {
    let sources = table.texts("sources", units::source)?;
    for (at, source) in sources.iter().enumerate() {
        if sources[..at].contains(source) {
            table.problem("sources", "`sources` names one place twice", "");
        }
        if matches!(source, Source::Cookie(name) if &**name == "session") {
            table.warning(
                "sources",
                "a cookie named `session` is overwritten by many upstreams' frameworks",
                "choose another name: \"cookie:portcullis\"",
            );
        }
    }
    Some(sources)
}

fn tokens(mut table: Table<'_>, workers: usize) -> Tokens {
    let leeway = table.duration_or_zero("leeway").unwrap_or(seconds(30));
    if leeway.subsec_nanos() > 0 || leeway > seconds(300) {
        let what = "`leeway` must be whole seconds, at most \"300s\"";
        table.problem("leeway", what, "set the clocks right, and keep the default");
    }
    let cache_size: usize = table
        .integer("cache_size", 0..=1_000_000_000)
        .unwrap_or(100_000);
    Tokens {
        leeway: leeway.as_secs(),
        cache_size,
        worker_cache_size: table
            .integer("worker_cache_size", 0..=100_000_000)
            // All workers together hold on to about as many as are shared.
            .unwrap_or((cache_size / workers.max(1)).max(4096)),
        cache_time: table.duration_or_zero("cache_time").unwrap_or(seconds(300)),
    }
}

/// Seconds, for defaults.
pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
