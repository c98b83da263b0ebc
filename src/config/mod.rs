//! The configuration as the rest of the code sees it: typed, complete, every default filled.
//! `source.rs` reads the file's text, `raw.rs` one table key by key, `check.rs` turns it all into this or into
//! every `Problem` at once. `config/portcullis.toml`
//! documents every key; the names here are the names there. Opens no socket.

mod accounts;
mod apis;
mod assertion;
mod check;
mod headers;
mod issuer;
mod jobs;
mod limits;
mod named;
mod own;
mod pattern;
mod problem;
mod raw;
pub(crate) mod redis;
mod route;
mod secrets;
mod shape;
mod source;
mod tickets;
pub(crate) mod store;
mod trial;
pub(crate) mod units;
mod upstream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;

use crate::observe::log::Format as LogFormat;
use crate::records::Api;
use crate::refusal::Language;
use crate::refusal::style::ErrorStyle;
use crate::secret::Secret;

pub use self::redis::{Redis, RedisPlace};
pub use accounts::{
    Accounts, AccountsSecret, Attempts, CharacterSet, FirstAdmin, Mail, MailHook, OWN_ISSUER,
    PasswordHash, Passwords,
};
pub use apis::{
    APP_PATHS, AUTH_PATHS, Apis, AppApi, SESSIONS_PATHS, SUPABASE_PATHS, SessionApi, SupabaseApi,
    TOKEN_PATHS, TokenApi,
};
pub use assertion::{Assertion, Bind};
pub use headers::{HeaderRules, IdentityHeaders};
pub use issuer::{Issuer, JwksUrl, KeySource};
pub use jobs::{
    Capture, CaptureFrom, FileNames, FilePart, Guard, GuardPlace, JobId, Jobs, Missing, OnFailure,
    Pointer, Scope, Step, Unknown,
};
pub use limits::{
    Bucket, Callers, Changes, LimitClass, LimitFigures, Limits, LimitsStore, Rate, RedisAway,
    RouteLimits, StreamsExceeded,
};
pub use own::OwnCall;
pub use problem::{Problem, Problems};
pub use shape::schema;
pub use store::{Store, StorePlace};
pub use tickets::Tickets;
pub use trial::{Test, TestCaller};
pub use upstream::{
    Balance, Eject, Endpoint, EndpointAddress, Health, Protocol, Upstream, UpstreamTls,
};

/// Reads and checks the file at `path`, with the process's environment. Also reads the key and
/// certificate files that it names.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let (what, mend) = match error.kind() {
            std::io::ErrorKind::InvalidData => ("is not UTF-8".to_owned(), "save it as UTF-8"),
            _ => (
                format!("cannot be read: {error}"),
                "give the file with --config FILE",
            ),
        };
        Problems(vec![Problem {
            file: path.into(),
            line: 0,
            what,
            mend: mend.to_owned(),
        }])
    })?;
    parse(&text, path, &|name| std::env::var(name).ok())
}

/// Checks `text` as if it stood in `file`: files that it names are relative to `file`'s folder.
/// `environment` answers `${NAME}`.
pub fn parse(
    text: &str,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let report = problem::Report::new(file);
    match source::read(text, environment, &report) {
        Some(tree) => check::check(&tree, report),
        None => Err(report.refuse()),
    }
}

/// A whole configuration, checked.
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "one field for each table of config/portcullis.toml"
)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub log: Log,
    pub errors: Errors,
    /// `[credentials] sources`.
    pub sources: Vec<Source>,
    pub identity: IdentityHeaders,
    /// `None`: nothing is signed.
    pub assertion: Option<Assertion>,
    pub tokens: Tokens,
    pub limits: Limits,
    /// `None`: there are none.
    pub tickets: Option<Tickets>,
    /// `None`: the gateway has no users of its own.
    pub accounts: Option<Accounts>,
    /// `None`: nothing is kept.
    pub store: Option<Store>,
    pub jobs: Jobs,
    /// `None`: what is short-lived is kept in memory, for one gateway.
    pub redis: Option<Redis>,
    pub issuers: Vec<Issuer>,
    pub upstreams: Vec<Upstream>,
    pub routes: Vec<Route>,
    /// Routes of no `[[route]]`: the log-in APIs and the gateway's own calls on the public listener.
    pub own: Vec<Route>,
    pub tests: Vec<Test>,
    /// Every file that was read for this configuration, to be watched: the config itself, keys, certificates.
    pub files: Vec<PathBuf>,
    /// What is allowed but probably not meant, in the order of lines.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Whether any route has to do with jobs, so that there must be a store.
    pub fn knows_jobs(&self) -> bool {
        self.routes.iter().any(Route::knows_jobs)
    }

    /// Every place that any route looks for a credential in.
    pub fn every_source(&self) -> impl Iterator<Item = &Source> {
        let of_routes = self.routes.iter().flat_map(|route| &route.sources);
        self.sources.iter().chain(of_routes)
    }
}

/// `[server]`: the public listener.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Server {
    pub listen: Vec<Listen>,
    /// At least one.
    pub workers: usize,
    pub hosts: Vec<HostPattern>,
    pub trusted_proxies: Vec<IpNet>,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub body_timeout: Duration,
    pub send_timeout: Duration,
    /// Bytes a second; 0: no limit.
    pub min_body_rate: u64,
    pub max_connections: usize,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    pub max_uri: usize,
    pub max_body: u64,
    pub drain_timeout: Duration,
    pub public_probes: bool,
    /// Begins with `/`, ends without.
    pub mount: Box<str>,
    pub verify: bool,
    pub watch: bool,
    pub tls: Option<ServerTls>,
    pub max_concurrent_streams: u32,
    pub http2_websocket: bool,
}

/// Where a listener stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

/// A host name to match: exact, or `*.` and one label before the rest. Lower case, no trailing dot, no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name.
    Exact(Box<str>),
    /// `.example.com`: any one label before it.
    Suffix(Box<str>),
}

/// `[server.tls]`. The files were readable and parsed at check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct ServerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub tls13_only: bool,
}

/// `[admin]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Admin {
    pub listen: SocketAddr,
    pub enabled: bool,
    /// `None`: what asks for it is not there.
    pub token: Option<Secret<Box<str>>>,
}

/// `[log]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Log {
    pub format: LogFormat,
    pub level: tracing::level_filters::LevelFilter,
    pub access: bool,
    pub audit: bool,
    pub email: bool,
}

/// `[errors]`, and what a route makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Errors {
    pub language: Language,
    pub style: ErrorStyle,
}

/// One place where a token may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of this name that holds the token alone.
    Header(HeaderName),
    /// A query parameter of this name.
    Query(Box<str>),
    /// A cookie of this name.
    Cookie(Box<str>),
    /// `Sec-WebSocket-Protocol: bearer, <token>`.
    Subprotocol,
}

/// A claim by its path of members: `user_metadata.username`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(pub Box<[Box<str>]>);

impl ClaimPath {
    /// Whether it lies in `user_metadata`, which the users of some issuers write themselves.
    pub fn is_user_metadata(&self) -> bool {
        self.0
            .first()
            .is_some_and(|member| &**member == "user_metadata")
    }
}

/// `[tokens]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Tokens {
    /// Seconds, at most 300.
    pub leeway: u64,
    pub cache_size: usize,
    pub worker_cache_size: usize,
    pub cache_time: Duration,
}

/// `[[route]]`: what may pass, and how.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Route {
    pub name: Arc<str>,
    /// The line of the file where the route begins.
    pub line: usize,
    pub host: Option<HostPattern>,
    pub path: PathPattern,
    /// `None`: any but TRACE and CONNECT.
    pub methods: Option<Vec<Method>>,
    pub target: Target,
    pub auth: Auth,
    pub on_invalid: OnInvalid,
    /// Whether the upstream gets a signed assertion.
    pub assertion: bool,
    pub credentials: Credentials,
    pub sources: Vec<Source>,
    /// Indexes in `Config::issuers`; `None`: all.
    pub issuers: Option<Vec<usize>>,
    pub roles: Vec<Box<str>>,
    pub require: Vec<Condition>,
    /// `scheme://host[:port]`, lower case, no default port.
    pub origins: Vec<Box<str>>,
    pub errors: Errors,
    pub max_body: u64,
    pub first_byte_timeout: Duration,
    /// Seconds; 0: none.
    pub expiring_notice: u32,
    pub on_disconnect: OnDisconnect,
    pub host_header: HostHeader,
    /// Lower case.
    pub upgrades: Vec<Box<str>>,
    pub headers: HeaderRules,
    pub sse: Sse,
    pub websocket: Websocket,
    pub limits: RouteLimits,
    /// What is kept of the jobs in its answers.
    pub captures: Vec<Capture>,
    /// Which jobs and files its requests may name.
    pub guards: Vec<Guard>,
}

impl Route {
    /// Whether it has to do with jobs.
    pub fn knows_jobs(&self) -> bool {
        !self.captures.is_empty() || !self.guards.is_empty()
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the upstream at this index of `Config::upstreams`.
    Upstream(usize),
    /// To the gateway itself.
    Own(OwnCall),
    /// To a log-in API of the gateway.
    Api(Api),
}

/// A path pattern, split at slashes: `/a/{id}/{*rest}`. Never empty: `/` is one empty literal, and `/a/` ends in one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern(pub Vec<Segment>);

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This text (unreserved escapes decoded).
    Literal(Box<str>),
    /// `{name}`: one non-empty segment.
    One(Box<str>),
    /// `{*name}`: everything that is left, slashes included, not empty; always last.
    Rest(Box<str>),
}

/// `auth` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Auth {
    /// Credentials are not looked at.
    Public,
    /// A guest may pass.
    Optional,
    /// Only a verified caller may pass.
    Required,
}

/// `on_invalid` of an optional route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum OnInvalid {
    Guest,
    Reject,
    /// Of the log-in APIs, and not for the file: the face is told what is wrong, also that nobody can tell, and has the
    /// last word. Most of its calls look at no credential.
    Face,
}

/// `credentials` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum Credentials {
    Strip,
    Pass,
}

/// A claim condition of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Which claim.
    pub claim: ClaimPath,
    /// What must hold of it.
    pub test: ConditionTest,
}

/// What must hold of a claim. A missing claim satisfies only `Exists(false)`.
#[derive(Clone, Debug, PartialEq)]
pub enum ConditionTest {
    /// Equal to this value (type included).
    Equals(serde_json::Value),
    /// Equal to one of these.
    OneOf(Vec<serde_json::Value>),
    /// A list that holds this value.
    Contains(serde_json::Value),
    /// There (and not null), or not.
    Exists(bool),
}

/// `on_disconnect` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum OnDisconnect {
    Cancel,
    Finish,
}

/// `host_header` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum HostHeader {
    Client,
    Upstream,
}

/// `[route.sse]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sse {
    /// Silence after which a comment is sent; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Which events get the fields.
    pub enrich: Enrich,
    /// Field and claim.
    pub enrich_fields: Vec<(Box<str>, ClaimPath)>,
    /// What a refused event stream gets.
    pub on_reject: SseReject,
    /// The `retry:` of an `auth_error` event.
    pub reject_retry: Duration,
    /// The `retry:` at drain and break-off.
    pub retry: Duration,
}

/// `enrich` of `[route.sse]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrich {
    /// No event.
    None,
    /// Events of these names.
    Named(Vec<Box<str>>),
    /// Every event.
    All,
}

/// `on_reject` of `[route.sse]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum SseReject {
    Status,
    Event,
}

/// `[route.websocket]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Websocket {
    pub enabled: bool,
    pub on_reject: WebsocketReject,
    pub greeting: bool,
    pub greeting_message: Box<str>,
    pub ping_interval: Option<Duration>,
    pub idle_timeout: Option<Duration>,
    pub close_unauthenticated: u16,
    pub close_forbidden: u16,
    pub close_limited: u16,
}

/// `on_reject` of `[route.websocket]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum WebsocketReject {
    Http,
    Close,
}

#[cfg(test)]
mod tests;
