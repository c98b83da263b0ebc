//! Reads `[[route]]`. Which route shadows which is the router's to say.

use std::sync::Arc;
use std::time::Duration;

use super::apis::{self, Apis};
use super::check::{self, seconds};
use super::named::{self, Named};
use super::own::{self, Own};
use super::raw::Table;
use super::units::{self, Wrong};
use super::{
    Auth, ClaimPath, Condition, ConditionTest, Credentials, Enrich, Errors, HostHeader,
    IdentityHeaders, Issuer, OnDisconnect, OnInvalid, PathPattern, Route, RouteLimits, Source, Sse,
    SseReject, Target, Upstream, Websocket, WebsocketReject, headers, jobs, limits, pattern,
};

/// What a route takes from the rest of the file.
pub(super) struct Common<'c> {
    pub(super) max_body: u64,
    pub(super) errors: Errors,
    pub(super) sources: &'c [Source],
    pub(super) identity: &'c IdentityHeaders,
    pub(super) issuers: &'c Named<Issuer>,
    pub(super) upstreams: &'c Named<(usize, Upstream)>,
    pub(super) own: Own,
    pub(super) apis: &'c Apis,
    /// There is a key to sign assertions with.
    pub(super) signs: bool,
}

/// Reads every `[[route]]`.
pub(super) fn routes(top: &mut Table<'_>, common: &Common<'_>) -> Vec<Route> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut used = vec![false; common.upstreams.len()];
    let mut routes = Vec::new();
    let tables = top.tables("route");
    if tables.is_empty() {
        top.problem(
            "route",
            "there is no [[route]]: nothing may pass",
            "add a [[route]] with name, path and upstream",
        );
    }
    let any = !tables.is_empty();
    for mut table in tables {
        let name = named::name(&mut table, |name| {
            names.iter().any(|known| **known == *name)
        });
        names.push(name.clone().unwrap_or_default());
        let upstream = upstream(&mut table, common);
        if let Some(upstream) = upstream {
            used[upstream] = true;
        }
        routes.extend(route(&mut table, common, (name, upstream)));
    }
    for (at, (line, upstream)) in common.upstreams.iter() {
        if upstream.assertion && !common.signs {
            let what = format!(
                "[upstream \"{}\"] `assertion` needs a key to sign with",
                upstream.name
            );
            let mend = "add [assertion] with a key_file";
            top.report.problem(*line, what, mend);
        }
        if any && !used[at] {
            let what = format!("[upstream \"{}\"] has no route", upstream.name);
            let mend = "add a [[route]] to it, or remove it";
            top.report.problem(*line, what, mend);
        }
    }
    routes
}

fn upstream(table: &mut Table<'_>, common: &Common<'_>) -> Option<usize> {
    let upstream = table.text("upstream", |name| {
        let unknown = |mend| Wrong::new("is not the name of an upstream", mend);
        common.upstreams.find(name).map_err(unknown)
    });
    table.require("upstream", "\"…\"");
    upstream
}

fn route(
    table: &mut Table<'_>,
    common: &Common<'_>,
    (name, upstream): (Option<Box<str>>, Option<usize>),
) -> Option<Route> {
    let path = table.text("path", pattern::path);
    table.require("path", "\"/…\"");
    let target = Target::Upstream(upstream.unwrap_or_default());
    let path = path.unwrap_or_else(|| PathPattern(Vec::new()));
    own::keep_apart(table, &common.own, &path);
    apis::keep_apart(table, common.apis, &path);
    let route = self::common(table, common, (name.unwrap_or_default(), (path, target)));
    makes_sense(table, common, &route);
    Some(route)
}

/// Reads everything but name, path and target.
pub(super) fn common(
    table: &mut Table<'_>,
    common: &Common<'_>,
    (name, (path, target)): (Box<str>, (PathPattern, Target)),
) -> Route {
    let upstream = match target {
        Target::Upstream(upstream) => common.upstreams.get(upstream).map(|(_, it)| it),
        Target::Own(_) | Target::Api(_) => None,
    };
    let auths = [
        ("public", Auth::Public),
        ("optional", Auth::Optional),
        ("required", Auth::Required),
    ];
    let on_invalids = [("guest", OnInvalid::Guest), ("reject", OnInvalid::Reject)];
    let credentials = [("strip", Credentials::Strip), ("pass", Credentials::Pass)];
    let on_disconnects = [
        ("cancel", OnDisconnect::Cancel),
        ("finish", OnDisconnect::Finish),
    ];
    let host_headers = [
        ("client", HostHeader::Client),
        ("upstream", HostHeader::Upstream),
    ];
    let first_byte_timeout = table.duration("first_byte_timeout");
    let auth = table.choice("auth", &auths).unwrap_or(Auth::Required);
    let limits = match target {
        Target::Upstream(_) => limits::route(table.table("limits"), auth),
        Target::Own(_) | Target::Api(_) => RouteLimits::off(),
    };
    let around = jobs::Around {
        path: &path,
        upstream: upstream.map(|upstream| &upstream.name),
        public: auth == Auth::Public,
    };
    let (captures, guards) = jobs::of_route(table, &around);
    Route {
        name: Arc::from(name),
        line: table.line,
        host: table.text("host", units::host),
        path,
        methods: methods(table),
        target,
        auth,
        on_invalid: table
            .choice("on_invalid", &on_invalids)
            .unwrap_or(OnInvalid::Guest),
        assertion: assertion(table, common, upstream),
        credentials: table
            .choice("credentials", &credentials)
            .unwrap_or(Credentials::Strip),
        sources: check::sources(table).unwrap_or_else(|| common.sources.to_vec()),
        issuers: issuers(table, common),
        roles: table.texts("roles", units::filled).unwrap_or_default(),
        require: conditions(table),
        origins: table.texts("origins", origin).unwrap_or_default(),
        errors: Errors {
            style: table
                .choice("style", &check::STYLES)
                .unwrap_or(common.errors.style),
            ..common.errors
        },
        max_body: table
            .size("max_body", 0..=1 << 40)
            .unwrap_or(common.max_body),
        first_byte_timeout: first_byte_timeout
            .or_else(|| Some(upstream?.first_byte_timeout))
            .unwrap_or(seconds(60)),
        expiring_notice: expiring_notice(table),
        on_disconnect: table
            .choice("on_disconnect", &on_disconnects)
            .unwrap_or(OnDisconnect::Cancel),
        host_header: table
            .choice("host_header", &host_headers)
            .unwrap_or(HostHeader::Client),
        upgrades: table.texts("upgrades", upgrade).unwrap_or_default(),
        headers: headers::rules(table.table("headers"), common.identity),
        sse: sse(table.table("sse")),
        websocket: websocket(table.table("websocket")),
        limits,
        captures,
        guards,
    }
}

/// How long before the end of a stream its client is warned.
fn expiring_notice(table: &mut Table<'_>) -> u32 {
    let notice = table.duration_or_zero("expiring_notice");
    let notice = notice.unwrap_or(seconds(60)).as_secs();
    u32::try_from(notice).unwrap_or(u32::MAX)
}

/// Whether the route's upstream gets an assertion: as the route says, else as the upstream does.
fn assertion(table: &mut Table<'_>, common: &Common<'_>, upstream: Option<&Upstream>) -> bool {
    let stated = table.flag("assertion");
    if stated == Some(true) && !common.signs {
        let what = "`assertion` needs a key to sign with";
        table.problem("assertion", what, "add [assertion] with a key_file");
    }
    stated.unwrap_or_else(|| upstream.is_some_and(|upstream| upstream.assertion))
}

fn methods(table: &mut Table<'_>) -> Option<Vec<http::Method>> {
    let methods = table.texts("methods", units::method)?;
    if methods.is_empty() {
        let mend = "name one at least, or leave the key out for all";
        table.problem("methods", "`methods` is empty: nothing could match", mend);
    }
    Some(methods)
}

fn issuers(table: &mut Table<'_>, common: &Common<'_>) -> Option<Vec<usize>> {
    let issuers = table.texts("issuers", |name| {
        let unknown = |mend| Wrong::new("is not the name of an issuer", mend);
        common.issuers.find(name).map_err(unknown)
    })?;
    (!issuers.is_empty()).then_some(issuers)
}

/// What each key alone cannot show.
fn makes_sense(table: &Table<'_>, common: &Common<'_>, route: &Route) {
    if route.auth != Auth::Required {
        for (key, empty) in [
            ("roles", route.roles.is_empty()),
            ("require", route.require.is_empty()),
        ] {
            if !empty {
                let what = format!("`{key}` needs a caller that is known");
                table.problem(key, &what, "set auth = \"required\", or remove it");
            }
        }
    }
    if route.auth == Auth::Public && route.assertion && table.has("assertion") {
        let what = "`assertion` has nobody to speak of: a public route knows no caller";
        table.problem(
            "assertion",
            what,
            "remove it, or set auth = \"optional\" or \"required\"",
        );
    }
    if route.auth != Auth::Public && common.issuers.len() == 0 {
        let what = "this route needs tokens, but there is no [[issuer]]";
        table.problem("auth", what, "add an [[issuer]], or set auth = \"public\"");
    }
    if route.auth != Auth::Public && route.sources.is_empty() {
        let what = "this route needs tokens, but there is no place for one";
        table.problem("sources", what, "add a source, or set auth = \"public\"");
    }
    let trusting = common.issuers.iter().all(|(at, issuer)| {
        let accepted = route
            .issuers
            .as_ref()
            .is_none_or(|accepted| accepted.contains(&at));
        !accepted || issuer.trust_user_metadata
    });
    if !trusting && rests_on_user_metadata(&route.require) {
        table.problem(
            "require",
            "`require` rests on user_metadata, which users can write themselves",
            "use app_metadata, or set trust_user_metadata = true on every issuer of this route",
        );
    }
}

/// Whether users of some issuers could meet a condition by what they write themselves.
pub(super) fn rests_on_user_metadata(require: &[Condition]) -> bool {
    let written_by_users = |condition: &Condition| condition.claim.is_user_metadata();
    require.iter().any(written_by_users)
}

/// Reads `require`, of a route or of a class of limits.
pub(super) fn conditions(table: &mut Table<'_>) -> Vec<Condition> {
    table
        .tables("require")
        .into_iter()
        .filter_map(condition)
        .collect()
}

fn condition(mut table: Table<'_>) -> Option<Condition> {
    let claim = table.text("claim", units::claim);
    table.require("claim", "\"…\"");
    let equals = table.json("equals").map(ConditionTest::Equals);
    let one_of = table.json("one_of");
    let contains = table.json("contains").map(ConditionTest::Contains);
    let exists = table.flag("exists").map(ConditionTest::Exists);
    let given = ["equals", "one_of", "contains", "exists"]
        .into_iter()
        .filter(|key| table.has(key))
        .count();
    if given != 1 {
        table.note(
            table.line,
            "a condition has one test",
            "write exactly one of equals, one_of, contains, exists",
        );
    }
    let one_of = one_of.and_then(|values| match values {
        serde_json::Value::Array(values) if !values.is_empty() => {
            Some(ConditionTest::OneOf(values))
        }
        _ => {
            table.problem(
                "one_of",
                "`one_of` must be a list of one value at least",
                "",
            );
            None
        }
    });
    Some(Condition {
        claim: claim?,
        test: equals.or(one_of).or(contains).or(exists)?,
    })
}

/// `scheme://host[:port]` as a browser writes it.
pub(super) fn origin(text: &str) -> Result<Box<str>, Wrong> {
    const EXAMPLE: &str = "write scheme, host and port: \"https://app.example.com\"";
    let wrong = || Wrong::new("is not an origin", EXAMPLE);
    if text == "*" || text == "null" {
        return Err(Wrong::new("would let any page in", EXAMPLE));
    }
    let url = reqwest::Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?.to_ascii_lowercase();
    let mut origin = format!("{}://{host}", url.scheme());
    if let Some(port) = url.port() {
        origin.push_str(&format!(":{port}"));
    }
    let rest = &url.as_str()[url.as_str().len().min(origin.len())..];
    match rest {
        "" | "/" => Ok(origin.into()),
        _ => Err(wrong()),
    }
}

fn upgrade(text: &str) -> Result<Box<str>, Wrong> {
    let name = text.to_ascii_lowercase();
    if name == "websocket" {
        return Err(Wrong::new(
            "is not passed untouched",
            "leave it out: [route.websocket] enabled says it",
        ));
    }
    if name == "h2c" {
        return Err(Wrong::new(
            "would carry requests past the gateway",
            "leave it out",
        ));
    }
    let wrong = |wrong: Wrong| Wrong::new("is not the name of a protocol", wrong.mend);
    units::header_name(&name.replace('/', "-")).map_err(wrong)?;
    Ok(name.into())
}

fn sse(mut table: Table<'_>) -> Sse {
    let words = [("status", SseReject::Status), ("event", SseReject::Event)];
    Sse {
        heartbeat: unless_zero(&mut table, "heartbeat", Some(seconds(15))),
        enrich: enrich(&mut table),
        enrich_fields: enrich_fields(&mut table),
        on_reject: table
            .choice("on_reject", &words)
            .unwrap_or(SseReject::Status),
        reject_retry: table
            .duration_or_zero("reject_retry")
            .unwrap_or(seconds(3600)),
        retry: table.duration_or_zero("retry").unwrap_or(seconds(2)),
    }
}

/// A duration, or `None` for `"0s"`.
fn unless_zero(
    table: &mut Table<'_>,
    key: &'static str,
    default: Option<Duration>,
) -> Option<Duration> {
    let duration = table.duration_or_zero(key).or(default);
    duration.filter(|duration| !duration.is_zero())
}

fn enrich(table: &mut Table<'_>) -> Enrich {
    let names = table
        .texts("enrich", |name| match name.contains(['\r', '\n']) {
            true => Err(Wrong::new("is not the name of an event", "")),
            false => units::filled(name),
        })
        .unwrap_or_default();
    let all = names.iter().any(|name| &**name == "*");
    if all && names.len() > 1 {
        let mend = "write [\"*\"], or the names";
        table.problem("enrich", "`enrich` names events beside \"*\"", mend);
    }
    match names.is_empty() {
        true => Enrich::None,
        false if all => Enrich::All,
        false => Enrich::Named(names),
    }
}

fn enrich_fields(table: &mut Table<'_>) -> Vec<(Box<str>, ClaimPath)> {
    if !table.has("enrich_fields") {
        table.members("enrich_fields");
        let claim = |member: &str| ClaimPath(Box::new([member.into()]));
        return vec![
            ("user_id".into(), claim("sub")),
            ("user_email".into(), claim("email")),
        ];
    }
    let members = table.text_members("enrich_fields");
    members
        .into_iter()
        .filter_map(|(name, node, text)| {
            let claim = table.understand(node, text, name, units::claim)?;
            Some((name.into(), claim))
        })
        .collect()
}

fn websocket(mut table: Table<'_>) -> Websocket {
    let words = [
        ("http", WebsocketReject::Http),
        ("close", WebsocketReject::Close),
    ];
    Websocket {
        enabled: table.flag("enabled").unwrap_or(true),
        on_reject: table
            .choice("on_reject", &words)
            .unwrap_or(WebsocketReject::Http),
        greeting: table.flag("greeting").unwrap_or(false),
        greeting_message: table
            .text("greeting_message", units::any)
            .unwrap_or_else(|| "WebSocket连接成功".into()),
        ping_interval: unless_zero(&mut table, "ping_interval", Some(seconds(30))),
        idle_timeout: unless_zero(&mut table, "idle_timeout", None),
        close_unauthenticated: close_code(&mut table, "close_unauthenticated").unwrap_or(4401),
        close_forbidden: close_code(&mut table, "close_forbidden").unwrap_or(4403),
        close_limited: close_code(&mut table, "close_limited").unwrap_or(4429),
    }
}

/// RFC 6455 §7.4: what an application may send.
fn close_code(table: &mut Table<'_>, key: &'static str) -> Option<u16> {
    let code: u16 = table.integer(key, 0..=u16::MAX)?;
    if code == 1008 || (3000..=4999).contains(&code) {
        return Some(code);
    }
    let what = format!("`{key}` is {code}, which may not be sent");
    table.problem(key, &what, "use 3000 to 4999, or 1008");
    None
}
