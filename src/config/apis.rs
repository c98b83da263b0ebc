//! Reads `[api]`: which log-in APIs there are, where they stand, and how each behaves; and makes their
//! routes, which no `[[route]]` may hide.

use std::time::Duration;

use http::HeaderName;

use super::accounts::{OWN_ISSUER, whole};
use super::check::seconds;
use super::raw::Table;
use super::route::{self, Common};
use super::units::{self, Wrong};
use super::{
    Auth, Errors, HostPattern, OnInvalid, PathPattern, Route, Segment, Source, Sse, SseReject,
    Target, Websocket, WebsocketReject, pattern, secrets,
};
use crate::records::Api;
use crate::refusal::style::ErrorStyle;
use crate::secret::Secret;

/// `[api]`: the log-in APIs that are switched on.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Apis {
    pub app: Option<AppApi>,
    pub session: Option<SessionApi>,
    pub token: Option<TokenApi>,
    pub supabase: Option<SupabaseApi>,
}

/// `[api.app]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct AppApi {
    pub mount: Box<str>,
    pub hosts: Vec<HostPattern>,
    /// How long after its end a token can still be renewed.
    pub renew_within: Duration,
    /// `None`: as `[accounts]`.
    pub access_ttl: Option<Duration>,
    /// Role and its menu: a list.
    pub menu: Vec<(Box<str>, serde_json::Value)>,
}

/// `[api.session]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct SessionApi {
    pub auth_mount: Box<str>,
    pub sessions_mount: Box<str>,
    pub hosts: Vec<HostPattern>,
    /// How many jobs a session shows.
    pub jobs_shown: u64,
}

/// `[api.token]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct TokenApi {
    /// Empty for the root.
    pub mount: Box<str>,
    pub hosts: Vec<HostPattern>,
    pub access_ttl: Duration,
    pub refresh_ttl: Duration,
}

/// `[api.supabase]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct SupabaseApi {
    pub mount: Box<str>,
    pub hosts: Vec<HostPattern>,
    /// Keys with the rights of `anon`. Empty, and no service key either: no key is asked for.
    pub anon_keys: Vec<Secret<String>>,
    /// Keys with the rights of `service_role`.
    pub service_keys: Vec<Secret<String>>,
    /// `None`: as `[accounts]`.
    pub access_ttl: Option<Duration>,
    /// Origins of browsers' pages; `*`: any.
    pub cors_origins: Vec<Box<str>>,
}

impl Apis {
    /// Whether none is switched on.
    pub fn is_empty(&self) -> bool {
        self.app.is_none()
            && self.session.is_none()
            && self.token.is_none()
            && self.supabase.is_none()
    }
}

/// Reads `[api]`.
pub(super) fn apis(mut table: Table<'_>) -> Apis {
    let apis = Apis {
        app: app(table.table("app")),
        session: session(table.table("session")),
        token: token(table.table("token")),
        supabase: supabase(table.table("supabase")),
    };
    // Nothing of its own: only tables.
    let _ = table.is_given();
    apis
}

fn app(mut table: Table<'_>) -> Option<AppApi> {
    let mount = mount(&mut table, "mount", "/api/v1/base");
    let api = AppApi {
        mount: mount.clone().unwrap_or_default(),
        hosts: hosts(&mut table),
        renew_within: whole(&mut table, "renew_within", seconds(7 * 86_400)),
        access_ttl: ttl(&mut table),
        menu: menu(&mut table),
    };
    mount.map(|_| api)
}

/// `[api.app.menu]`: a list for each role.
fn menu(table: &mut Table<'_>) -> Vec<(Box<str>, serde_json::Value)> {
    let mut menu = Vec::new();
    for (role, node) in table.members("menu") {
        match table.as_json(node, role) {
            Some(list) if list.is_array() => menu.push((role.into(), list)),
            Some(_) => table.note(node.line, &format!("`menu.{role}` must be a list"), ""),
            None => {}
        }
    }
    menu
}

fn session(mut table: Table<'_>) -> Option<SessionApi> {
    let auth_mount = mount(&mut table, "auth_mount", "/api/auth");
    let sessions_mount = mount(&mut table, "sessions_mount", "/api/sessions");
    let hosts = hosts(&mut table);
    let jobs_shown = table.integer("jobs_shown", 1..=10_000).unwrap_or(100);
    if auth_mount.is_some() && auth_mount == sessions_mount {
        let mend = "choose two places: \"/api/auth\" and \"/api/sessions\"";
        table.problem("sessions_mount", "`sessions_mount` is `auth_mount`", mend);
    }
    Some(SessionApi {
        auth_mount: auth_mount?,
        sessions_mount: sessions_mount?,
        hosts,
        jobs_shown,
    })
}

fn token(mut table: Table<'_>) -> Option<TokenApi> {
    let mount = table.text("mount", |text| match text {
        "/" => Ok("".into()),
        text => pattern::mount(text),
    });
    require(&table, "mount", "/auth");
    let api = TokenApi {
        mount: mount.clone().unwrap_or_default(),
        hosts: hosts(&mut table),
        access_ttl: whole(&mut table, "access_ttl", seconds(900)),
        refresh_ttl: whole(&mut table, "refresh_ttl", seconds(7 * 86_400)),
    };
    mount.map(|_| api)
}

fn supabase(mut table: Table<'_>) -> Option<SupabaseApi> {
    let mount = mount(&mut table, "mount", "/auth/v1");
    // Those of `anon_keys` are in every client.
    table.warn_if_written_out("service_keys", |_| true);
    let api = SupabaseApi {
        mount: mount.clone().unwrap_or_default(),
        hosts: hosts(&mut table),
        anon_keys: keys(&mut table, "anon_keys"),
        service_keys: keys(&mut table, "service_keys"),
        access_ttl: ttl(&mut table),
        cors_origins: table
            .texts("cors_origins", origin)
            .unwrap_or_else(|| vec!["*".into()]),
    };
    mount.map(|_| api)
}

/// API keys: long enough that nobody guesses one. Never shown.
fn keys(table: &mut Table<'_>, key: &'static str) -> Vec<Secret<String>> {
    let keys = table.secrets(key, |text| match text.len() {
        0..20 => Err(Wrong::new(
            "holds a key of fewer than 20 characters",
            "sb_secret_$(openssl rand -hex 24), from ${ENV} or a JWT of the project",
        )),
        _ if secrets::is_published(text) => Err(Wrong::new(
            "holds a published or placeholder key that others know",
            "make a new one: sb_secret_$(openssl rand -hex 24)",
        )),
        _ => Ok(Secret::new(text.to_owned())),
    });
    keys.unwrap_or_default()
}

fn origin(text: &str) -> Result<Box<str>, Wrong> {
    match text {
        "*" => Ok("*".into()),
        text => route::origin(text),
    }
}

fn mount(table: &mut Table<'_>, key: &'static str, example: &str) -> Option<Box<str>> {
    let mount = table.text(key, pattern::mount);
    require(table, key, example);
    mount
}

fn require(table: &Table<'_>, key: &'static str, example: &str) {
    if table.is_given() {
        table.require(key, &format!("\"{example}\""));
    }
}

fn hosts(table: &mut Table<'_>) -> Vec<HostPattern> {
    table.texts("hosts", units::host).unwrap_or_default()
}

fn ttl(table: &mut Table<'_>) -> Option<Duration> {
    match table.has("access_ttl") {
        true => Some(whole(table, "access_ttl", seconds(3600))),
        // Read all the same, so that the key is known.
        false => table.duration("access_ttl"),
    }
}

/// What one API has below its mount. The calls themselves are told in the faces' tables, which a test holds
/// against these.
pub const APP_PATHS: [&str; 4] = ["/access_token", "/refresh_token", "/userinfo", "/usermenu"];
/// Below `auth_mount`.
pub const AUTH_PATHS: [&str; 5] = ["/register", "/login", "/verify", "/logout", "/me"];
/// Below `sessions_mount`.
pub const SESSIONS_PATHS: [&str; 4] = ["", "/new", "/current/jobs", "/{id}"];
/// The token API's.
pub const TOKEN_PATHS: [&str; 6] = [
    "/register",
    "/login",
    "/refresh",
    "/logout",
    "/me",
    "/protected",
];
/// The Supabase API's: all of its mount.
pub const SUPABASE_PATHS: [&str; 3] = ["", "/", "/{*rest}"];

/// Where a call of an API stands.
struct Place<'a> {
    api: Api,
    name: &'static str,
    mount: &'a str,
    path: &'static str,
    hosts: &'a [HostPattern],
}

fn places(apis: &Apis) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    let mut add = |api, name, mount, hosts, paths: &[&'static str]| {
        places.extend(paths.iter().map(|path| Place {
            api,
            name,
            mount,
            path,
            hosts,
        }));
    };
    if let Some(app) = &apis.app {
        add(Api::App, "api:app", &*app.mount, &app.hosts[..], &APP_PATHS);
    }
    if let Some(it) = &apis.session {
        let (auth, sessions) = (&*it.auth_mount, &*it.sessions_mount);
        add(Api::Session, "api:session", auth, &it.hosts, &AUTH_PATHS);
        add(
            Api::Session,
            "api:session",
            sessions,
            &it.hosts,
            &SESSIONS_PATHS,
        );
    }
    if let Some(it) = &apis.token {
        add(Api::Token, "api:token", &it.mount, &it.hosts, &TOKEN_PATHS);
    }
    if let Some(it) = &apis.supabase {
        add(
            Api::Supabase,
            "api:supabase",
            &it.mount,
            &it.hosts,
            &SUPABASE_PATHS,
        );
    }
    places
}

/// The routes of all APIs: a guest may call them and so may whoever has a bad credential; each API has the
/// last word on both.
pub(super) fn routes(top: &Table<'_>, common: &Common<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for place in places(common.apis) {
        let path = format!("{}{}", place.mount, place.path);
        let Ok(path) = pattern::path(&path) else {
            continue;
        };
        let mut table = top.nothing("route.");
        let target = (path, Target::Api(place.api));
        let usual = route::common(&mut table, common, (place.name.into(), target));
        let route = Route {
            auth: Auth::Optional,
            on_invalid: OnInvalid::Face,
            sources: sources(place.api),
            // Users of other issuers are none of these APIs'.
            issuers: common.issuers.find(OWN_ISSUER).ok().map(|own| vec![own]),
            assertion: false,
            errors: Errors {
                style: ErrorStyle::Api(place.api),
                ..usual.errors
            },
            // Its clients read a status and a body, also where they say that they take events.
            sse: Sse {
                on_reject: SseReject::Status,
                ..usual.sse.clone()
            },
            websocket: Websocket {
                on_reject: WebsocketReject::Http,
                ..usual.websocket.clone()
            },
            ..usual
        };
        match place.hosts {
            [] => routes.push(route),
            hosts => routes.extend(hosts.iter().map(|host| Route {
                host: Some(host.clone()),
                ..route.clone()
            })),
        }
    }
    routes
}

/// Reports a route that stands where an API answers.
pub(super) fn keep_apart(table: &Table<'_>, apis: &Apis, path: &PathPattern) {
    for place in places(apis) {
        let own = pattern::path(&format!("{}{}", place.mount, place.path));
        if own.is_ok_and(|own| same_paths(&own, path)) {
            let what = format!(
                "`path` is that of a call of [{}]",
                place.name.replace(':', ".")
            );
            table.problem(
                "path",
                &what,
                "choose another path, or mount the API elsewhere",
            );
            return;
        }
    }
}

/// Whether both patterns match the same paths.
fn same_paths(one: &PathPattern, other: &PathPattern) -> bool {
    let same = |pair: (&Segment, &Segment)| match pair {
        (Segment::Literal(one), Segment::Literal(other)) => one.eq_ignore_ascii_case(other),
        (Segment::One(_), Segment::One(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
        _ => false,
    };
    one.0.len() == other.0.len() && one.0.iter().zip(&other.0).all(same)
}

/// Where the clients of an API put its tokens. Never the query: `?token=` is a code in a link of the Supabase API.
fn sources(api: Api) -> Vec<Source> {
    let header = |name| Source::Header(HeaderName::from_static(name));
    match api {
        Api::App => vec![Source::Bearer, header("token")],
        Api::Session => vec![Source::Bearer, header("x-session-token")],
        Api::Token | Api::Supabase => vec![Source::Bearer],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_an_api_is_a_path() {
        for (mount, paths) in [
            ("/api/v1/base", &APP_PATHS[..]),
            ("/api/auth", &AUTH_PATHS),
            ("/api/sessions", &SESSIONS_PATHS),
            ("", &TOKEN_PATHS),
            ("/auth/v1", &SUPABASE_PATHS),
        ] {
            for path in paths {
                assert!(pattern::path(&format!("{mount}{path}")).is_ok(), "{path}");
            }
        }
    }
}
