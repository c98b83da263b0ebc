//! The whole check: from a text to a `Config`, or to its problems.

use std::ops::RangeInclusive;
use std::path::Path;

use super::*;

mod defaults;
mod written_out;

/// Good for HS256 and nowhere else.
const SECRET: &str = "kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE";

const REFERENCE: &str = include_str!("../../config/portcullis.toml");

const MINIMAL: &str = r#"
[[issuer]]
name = "project"
iss = "https://project.example/auth/v1"
audience = ["authenticated"]
algorithms = ["HS256"]
secret = "${PORTCULLIS_JWT_SECRET}"

[[upstream]]
name = "app"
endpoints = ["http://127.0.0.1:8000"]

[[route]]
name = "generate"
path = "/api/v1/generate/{*rest}"
upstream = "app"
"#;

const ACCOUNTS: &str = "[accounts]\nissuer = \"https://gateway.example/auth/v1\"\n";

fn environment(name: &str) -> Option<String> {
    (name == "PORTCULLIS_JWT_SECRET").then(|| SECRET.to_owned())
}

fn check(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("portcullis.toml"), &environment)
}

/// `MINIMAL` with one piece replaced, and the lines that its problems may name: those of its table, to the
/// end of the new piece.
fn broken(old: &str, new: &str) -> (String, RangeInclusive<usize>) {
    let at = MINIMAL.find(old).unwrap();
    let line_of = |at: usize| MINIMAL[..at].matches('\n').count() + 1;
    let table = line_of(MINIMAL[..at].rfind("[[").unwrap());
    let lines = table..=line_of(at) + new.matches('\n').count();
    (MINIMAL.replacen(old, new, 1), lines)
}

#[test]
fn each_mistake_is_named_with_its_line_and_its_mend() {
    for (old, new, words) in MISTAKES {
        let (text, lines) = broken(old, new);
        let problems = check(&text).map(|_| ()).unwrap_err();
        let shown = problems.to_string();
        for word in *words {
            assert!(shown.contains(word), "{new}\n{shown}");
        }
        let named = |problem: &Problem| lines.contains(&problem.line);
        assert!(problems.0.iter().any(named), "{new}\n{shown}");
        for secret in [SECRET, "hunter2", "s3cr3t", "12345678"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn a_file_of_other_bytes_than_utf8_is_told_from_one_that_cannot_be_read() {
    let folder = std::env::temp_dir().join(format!("portcullis-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("portcullis.toml");
    std::fs::write(&file, b"# K\xf6nig\n").unwrap();
    let shown = |path: &Path| load(path).map(|_| ()).unwrap_err().to_string();
    let (bytes, gone) = (shown(&file), shown(&folder));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        bytes.contains("is not UTF-8\n    save it as UTF-8"),
        "{bytes}"
    );
    assert!(gone.contains("cannot be read"), "{gone}");
}

#[test]
fn mistakes_above_the_lists_are_named() {
    for (head, words) in MISTAKES_ABOVE {
        let shown = check(&format!("{head}\n{MINIMAL}"));
        let shown = shown.map(|_| ()).unwrap_err().to_string();
        assert!(shown.contains(words), "{head}\n{shown}");
    }
    let shown = check("").map(|_| ()).unwrap_err().to_string();
    assert!(shown.contains("there is no [[route]]"), "{shown}");
}

#[test]
fn many_mistakes_are_told_at_once_in_the_order_of_lines() {
    let shown = check(MANY_MISTAKES).map(|_| ()).unwrap_err().to_string();
    assert_eq!(shown, TOLD.trim());
}

const PATH: &str = "path = \"/api/v1/generate/{*rest}\"";
const KEYS: &str = "secret = \"${PORTCULLIS_JWT_SECRET}\"";
const ENDPOINTS: &str = "endpoints = [\"http://127.0.0.1:8000\"]";
const ALGORITHMS: &str = "algorithms = [\"HS256\"]";
const ISS: &str = "iss = \"https://project.example/auth/v1\"";
const TO: &str = "upstream = \"app\"";

/// What of `MINIMAL` is replaced, by what, and the words of the problem.
#[rustfmt::skip]
const MISTAKES: &[(&str, &str, &[&str])] = &[
    (PATH, "pth = \"/a\"", &["[route \"generate\"] unknown key `pth`", "did you mean `path`?", "`path` is missing"]),
    (PATH, "path = 5", &["`path` must be a string, not an integer", "write it in quotes: \"…\""]),
    (TO, "upstream = \"app\"\nroles = \"admin\"", &["`roles` must be a list of strings", "roles = [\"…\"]"]),
    (TO, "upstream = \"app\"\nsse = true", &["`sse` must be a table, not", "write it in braces: { … }"]),
    (TO, "upstream = \"app\"\nmax_body = 99999999999999999999", &["an integer is too large", "write at most 9223372036854775807"]),
    (PATH, "path = \"a\"", &["does not begin with a slash", "write \"/a\""]),
    (PATH, "path = \"/a//b\"", &["holds //"]),
    (PATH, "path = \"/a/../b\"", &["holds a dot segment"]),
    (PATH, "path = \"/a/%2e%2e/b\"", &["holds a dot segment"]),
    (PATH, "path = \"/a%2Fb\"", &["an escape that is refused"]),
    (PATH, "path = \"/a%00\"", &["an escape that is refused"]),
    (PATH, "path = \"/a%4\"", &["a broken escape"]),
    (PATH, "path = \"/a;b\"", &["holds ; or \\"]),
    (PATH, "path = \"/a?b\"", &["a query or a fragment"]),
    (PATH, "path = \"/{*a}/b\"", &["goes on after {*…}"]),
    (PATH, "path = \"/a{b}\"", &["a parameter that is not one"]),
    (PATH, "path = \"/{a}/{a}\"", &["two parameters of one name"]),
    (TO, "upstream = \"ap\"", &["`upstream`: \"ap\" is not the name of an upstream", "did you mean `app`?", "[upstream \"app\"] has no route"]),
    (TO, "upstream = \"app\"\nauth = \"requird\"", &["\"requird\" is not a word", "did you mean `required`?"]),
    (TO, "upstream = \"app\"\nauth = \"public\"\nroles = [\"a\"]", &["`roles` needs a caller that is known"]),
    (TO, "upstream = \"app\"\nissuers = [\"projekt\"]", &["is not the name of an issuer", "did you mean `project`?"]),
    (TO, "upstream = \"app\"\nmethods = [\"get\"]", &["write \"GET\""]),
    (TO, "upstream = \"app\"\nmethods = [\"TRACE\"]", &["is never served"]),
    (TO, "upstream = \"app\"\nmethods = []", &["nothing could match"]),
    (TO, "upstream = \"app\"\nhost = \"https://a\"", &["is not a host name"]),
    (TO, "upstream = \"app\"\nmax_body = \"10MB\"", &["\"10MB\" is not a size"]),
    (TO, "upstream = \"app\"\norigins = [\"*\"]", &["would let any page in"]),
    (TO, "upstream = \"app\"\norigins = [\"https://a/b\"]", &["is not an origin"]),
    (TO, "upstream = \"app\"\nupgrades = [\"h2c\"]", &["past the gateway"]),
    (TO, "upstream = \"app\"\nsources = []", &["no place for one"]),
    (TO, "upstream = \"app\"\nrequire = [{ claim = \"a\" }]", &["a condition has one test"]),
    (TO, "upstream = \"app\"\nrequire = [{ claim = \"a\", equals = 1, exists = true }]", &["a condition has one test"]),
    (TO, "upstream = \"app\"\nrequire = [{ claim = \"a..b\", equals = 1 }]", &["is not the path of a claim"]),
    (TO, "upstream = \"app\"\nrequire = [{ claim = \"user_metadata.plan\", equals = 1 }]", &["which users can write themselves"]),
    (TO, "upstream = \"app\"\nheaders.request_set = { host = \"a\" }", &["only the gateway itself"]),
    (TO, "upstream = \"app\"\nheaders.request_set = { X_User_Id = \"a\" }", &["is an identity header"]),
    (TO, "upstream = \"app\"\nheaders.response_remove = [\"Transfer-Encoding\"]", &["only the gateway itself"]),
    (TO, "upstream = \"app\"\nheaders.request_set = { x-key = \"s3cr3t\\nx\" }", &["the value of x-key cannot stand"]),
    (TO, "upstream = \"app\"\nsse.heartbeat = \"15\"", &["[route.sse \"generate\"] `heartbeat`: \"15\" is not a duration"]),
    (TO, "upstream = \"app\"\nwebsocket.close_forbidden = 1000", &["which may not be sent"]),
    (TO, "upstream = \"app\"\nwebsocket.close_limited = 70000", &["must be from 0 to 65535"]),
    (KEYS, "", &["there is no key source"]),
    (KEYS, "secret = \"short\"", &["a secret of 5 bytes: too short"]),
    (KEYS, "secret = \"super-secret-jwt-token-with-at-least-32-characters-long\"", &["published or placeholder"]),
    (KEYS, "secret = \"your-256-bit-secret-your-256-bit-secret\"", &["published or placeholder"]),
    (KEYS, "secret = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", &["easy to guess"]),
    (KEYS, "secret = \"kQ7fT2vX9mLkQ7fT2vX9mLkQ7fT2vX9mLkQ7fT2vX9mL\"", &["easy to guess"]),
    (KEYS, "secret = \"${GONE}\"", &["the environment has no GONE"]),
    (KEYS, "secret = 12345678", &["`secret` must be a string"]),
    (KEYS, "secret_file = \"/nonexistent/file\"", &["cannot be read"]),
    (KEYS, "secret = \"${PORTCULLIS_JWT_SECRET}\"\njwks_url = \"https://a.example/jwks\"", &["`jwks_url` is a second key source beside `secret`"]),
    (KEYS, "jwks_url = \"https://a.example/jwks\"", &["HS256 does not go with"]),
    (KEYS, "jwks_url = \"http://a.example/jwks\"", &["is http to another machine"]),
    (KEYS, "jwks_url = \"file:///etc/passwd\"", &["is neither https nor http"]),
    (KEYS, "jwks_url = \"https://u:hunter2@a.example/\"", &["a user or a password"]),
    (KEYS, "jwks_url = \"https://169.254.169.254/\"", &["link-local"]),
    (KEYS, "jwks_url = \"https://2852039166/\"", &["link-local"]),
    (KEYS, "jwks_url = \"https://[::ffff:169.254.169.254]/\"", &["link-local"]),
    (KEYS, "secret = \"${PORTCULLIS_JWT_SECRET}\"\njwks_refresh = \"1m\"", &["does nothing without `jwks_url`"]),
    (ALGORITHMS, "algorithms = []", &["`algorithms` is empty"]),
    (ALGORITHMS, "algorithms = [\"none\"]", &["nobody signed"]),
    (ALGORITHMS, "algorithms = [\"RS256\"]", &["RS256 does not go with"]),
    (ALGORITHMS, "algorithms = [\"HS255\"]", &["did you mean `HS256`?"]),
    (ISS, "", &["`iss` is missing"]),
    (ISS, "iss = \"a\"\nroles = [\"user_metadata.roles\"]", &["`roles` rests on user_metadata"]),
    (ENDPOINTS, "endpoints = []", &["`endpoints` is empty"]),
    (ENDPOINTS, "endpoints = [\"127.0.0.1:8000\"]", &["is not an endpoint"]),
    (ENDPOINTS, "endpoints = [\"http://a/b\"]", &["more than scheme, host and port"]),
    (ENDPOINTS, "endpoints = [\"unix:relative\"]", &["is not the path of a unix socket"]),
    (ENDPOINTS, "endpoints = [\"http://a\"]\nhealth.interval = \"1s\"", &["`path` is missing"]),
    (ENDPOINTS, "endpoints = [\"http://a\"]\nconnect_timeout = \"0s\"", &["is no time at all"]),
];

/// What stands before `MINIMAL`, and the words of the problem.
#[rustfmt::skip]
const MISTAKES_ABOVE: &[(&str, &str)] = &[
    ("[sever]", "did you mean `server`?"),
    ("[server]\nlisten = [\"8080\"]", "\"8080\" is not an address"),
    ("[server]\nlisten = []", "`listen` is empty"),
    ("[server]\nlisten = \"127.0.0.1:1\"", "must be a list of strings, not a string"),
    ("[server]\nhosts = [\"a.example:80\"]", "is not a host name"),
    ("[server]\ntrusted_proxies = [\"10.0.0.0/33\"]", "is not a network"),
    ("[server]\nmount = \"/a/\"", "is not a place to mount"),
    ("[server]\nmax_headers = 5", "from 10 to 1000"),
    ("[server]\nmax_uri = \"1GiB\"", "is out of range"),
    ("[server]\nworkers = -1", "from 0 to 1024"),
    ("[server]\ndrain_timeout = \"500d\"", "is too long"),
    ("[server.tls]\nkey = \"/nonexistent\"", "`certificate` is missing"),
    ("[log]\nlevel = \"inf\"", "did you mean `info`?"),
    ("[errors]\nlanguage = \"de\"", "known here: en, zh"),
    ("[credentials]\nsources = [\"header:Authorization\"]", "write \"bearer\""),
    ("[credentials]\nsources = [\"header:host\"]", "a meaning of its own"),
    ("[credentials]\nsources = [\"query:\"]", "is not a place for a token"),
    ("[credentials]\nsources = [\"bearer\", \"bearer\"]", "names one place twice"),
    ("[identity]\nstatus_header = \"Connection\"", "a meaning of its own"),
    ("[identity]\nstatus_header = \"x_user_id\"", "x-user-id has two meanings"),
    ("[identity.headers]\ntoken = \"sub\"", "token has two meanings"),
    ("[identity.headers]\n\"x y\" = \"sub\"", "is not a header name"),
    ("[identity.headers]\ncontent-length = \"sub\"", "a meaning of its own"),
    ("[identity.headers]\nx-user-role = \"user_metadata.role\"", "which users can write themselves"),
    ("[tokens]\nleeway = \"301s\"", "at most \"300s\""),
    ("[[test]]\nname = \"a\"\nrequest = \"GET\"\nexpect.decision = \"allow\"", "is not a request"),
    ("[[test]]\nname = \"a\"\nrequest = \"GET /\"", "`expect` is missing"),
    ("[[test]]\nname = \"a\"\nrequest = \"GET /\"\nexpect = { decision = \"refuse\", reason = \"token_mising\" }", "did you mean `token_missing`?"),
    ("[[test]]\nname = \"a\"\nrequest = \"GET /\"\nexpect = { decision = \"allow\", route = \"generat\" }", "did you mean `generate`?"),
    ("[[upstream]]\nname = \"app\"\nendpoints = [\"http://a\"]", "is taken by another above"),
    ("[server]\nlisten = [\"127.0.0.1:1\"", "not TOML"),
    ("[server]\nwatch = true\nwatch = true", "not TOML"),
];

const MANY_MISTAKES: &str = r#"[server]
header_timeout = "15"
max_headers = "100"
hots = []

[[issuer]]
name = "project"
iss = "https://project.example/auth/v1"
audience = ["authenticated"]
algorithms = ["none"]
secret = "${PORTCULLIS_JWT_SECRET}"
secret_file = "${NOT_THERE}"

[[upstream]]
name = "app"
endpoints = ["http://127.0.0.1:8000", "ftp://127.0.0.1"]

[[route]]
name = "one"
path = "/a/../b"
upstream = "ap"

[[route]]
name = "one"
path = "/c"
upstream = "app"
websocket.close_forbidden = 1006
"#;

const TOLD: &str = r#"
portcullis.toml:2: [server] `header_timeout`: "15" is not a duration
    write a whole number and ms, s, m, h or d: "500ms", "15s"
portcullis.toml:3: [server] `max_headers` must be an integer, not a string
    write a whole number without quotes: max_headers = 10
portcullis.toml:4: [server] unknown key `hots`
    did you mean `hosts`?
portcullis.toml:10: [issuer "project"] `algorithms`: "none" would accept tokens that nobody signed
    name the algorithm that the issuer signs with
portcullis.toml:12: the environment has no NOT_THERE
    set NOT_THERE, or write $${ for a literal ${
portcullis.toml:12: [issuer "project"] `secret_file` is a second key source beside `secret`
    leave exactly one; another key of the same issuer goes into its JWKS
portcullis.toml:16: [upstream "app"] `endpoints`: "ftp://127.0.0.1" is not an endpoint
    write "http://host:port", "https://host:port" or "unix:/path"
portcullis.toml:20: [route "one"] `path`: "/a/../b" holds a dot segment
    write the path without . and ..
portcullis.toml:21: [route "one"] `upstream`: "ap" is not the name of an upstream
    did you mean `app`?
portcullis.toml:24: [route "one"] `name` is taken by another above
    choose another
portcullis.toml:27: [route.websocket "one"] `close_forbidden` is 1006, which may not be sent
    use 3000 to 4999, or 1008
"#;

#[test]
fn the_gateway_s_own_issuer_and_apis_stand_apart_from_others() {
    for (text, words) in [
        ("[api.app]\nmount = \"/x\"\n", "there are no [accounts]"),
        ("[accounts]\n", "`issuer` is missing"),
        (
            "[accounts]\nissuer = \"https://gateway.example/auth/v1\"\nconfirm_email = true\n",
            "`confirm_email` needs mails",
        ),
        (
            "[accounts]\nissuer = \"https://project.example/auth/v1\"\n",
            "is an [[issuer]]'s `iss` too",
        ),
        (
            &format!("{ACCOUNTS}[api.supabase]\nmount = \"/a\"\nservice_keys = [\"hunter2\"]\n"),
            "fewer than 20 characters",
        ),
        (
            &format!("{ACCOUNTS}[api.session]\nauth_mount = \"/api\"\nsessions_mount = \"/api\"\n"),
            "`sessions_mount` is `auth_mount`",
        ),
        (
            &format!(
                "{ACCOUNTS}[api.app]\nmount = \"/base\"\n[[route]]\nname = \"in the way\"\nupstream = \"app\"\npath = \"/base/userinfo\"\n"
            ),
            "`path` is that of a call of [api.app]",
        ),
    ] {
        let problems = check(&format!("{MINIMAL}\n{text}"))
            .map(|_| ())
            .unwrap_err();
        let shown = problems.to_string();
        assert!(shown.contains(words), "{text}\n{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_value_of_the_environment_brings_no_toml_of_its_own() {
    let text = MINIMAL.replace("https://project.example/auth/v1", "${ISS}");
    let inject = "a\"\ntrust_user_metadata = true\n#";
    let config = parse(&text, Path::new("portcullis.toml"), &|name| match name {
        "ISS" => Some(inject.to_owned()),
        name => environment(name),
    })
    .unwrap();
    assert_eq!(&*config.issuers[0].iss, inject);
    assert!(!config.issuers[0].trust_user_metadata);
}

#[test]
fn what_is_doubtful_is_a_warning() {
    let text = format!(
        "[admin]\nlisten = \"0.0.0.0:9901\"\n[credentials]\nsources = [\"cookie:session\"]\n{}",
        MINIMAL.replace("HS256", "HS512")
    );
    let warnings = check(&text).unwrap().warnings;
    let lines: Vec<_> = warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [2, 4, 10], "{warnings:?}");
}

#[test]
fn no_route_stands_where_the_gateway_answers_itself() {
    for (head, path, words) in [
        (
            "",
            "/_portcullis/verify",
            "lies under `mount`, \"/_portcullis\"",
        ),
        ("", "/_Portcullis/{*rest}", "lies under `mount`"),
        ("mount = \"/gate/own\"", "/gate/own", "lies under `mount`"),
        (
            "public_probes = true",
            "/healthz",
            "the gateway's own /healthz",
        ),
        (
            "public_probes = true",
            "/Readyz/",
            "the gateway's own /readyz",
        ),
    ] {
        let text = format!(
            "[server]\n{head}\n{}",
            MINIMAL.replace("/api/v1/generate/{*rest}", path)
        );
        let problems = check(&text).map(|_| ()).unwrap_err();
        let line = text
            .lines()
            .position(|line| line.starts_with("path"))
            .unwrap()
            + 1;
        assert!(problems.0[0].what.contains(words), "{problems}");
        assert_eq!(problems.0[0].line, line, "{problems}");
        assert!(!problems.0[0].mend.is_empty());
    }
    for path in ["/_portcullisx", "/{*rest}", "/healthz"] {
        check(&MINIMAL.replace("/api/v1/generate/{*rest}", path)).unwrap();
    }
}

#[test]
fn what_assertions_need_is_named() {
    for (old, new, words) in [
        (
            TO,
            "upstream = \"app\"\nassertion = true",
            "`assertion` needs a key to sign with",
        ),
        (
            ENDPOINTS,
            "endpoints = [\"http://127.0.0.1:1\"]\nassertion = true",
            "[upstream \"app\"] `assertion` needs",
        ),
        (
            TO,
            "upstream = \"app\"\nauth = \"public\"\nassertion = true",
            "a public route knows no caller",
        ),
        (
            "[[issuer]]",
            "[assertion]\n[[issuer]]",
            "[assertion] `key_file` is missing",
        ),
        (
            "[[issuer]]",
            "[assertion]\nkey_file = \"nowhere.pem\"\n[[issuer]]",
            "cannot be read",
        ),
        (
            "[[issuer]]",
            "[assertion]\nalgorithm = \"HS256\"\n[[issuer]]",
            "`algorithm`: \"HS256\" is not a word",
        ),
        (
            "[[issuer]]",
            "[assertion]\nttl = \"2h\"\n[[issuer]]",
            "`ttl` must be whole seconds",
        ),
        (
            "[[issuer]]",
            "[assertion]\nheader = \"x-user-id\"\n[[issuer]]",
            "the header x-user-id has two meanings",
        ),
        (
            "[[issuer]]",
            "[assertion]\nheader = \"Cookie\"\n[[issuer]]",
            "a header with a meaning of its own",
        ),
        (
            TO,
            "upstream = \"app\"\nheaders.request_set = { x_portcullis_assertion = \"a\" }",
            "is an identity header",
        ),
    ] {
        let shown = check(&MINIMAL.replacen(old, new, 1))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(shown.contains(words), "{new}\n{shown}");
    }
    let pasted = "[assertion]\nkey_file = \"-----BEGIN PRIVATE KEY-----s3cr3t\"\n";
    let shown = check(&format!("{pasted}{MINIMAL}"))
        .map(|_| ())
        .unwrap_err();
    assert!(!shown.to_string().contains("s3cr3t"), "{shown}");
    let none = "[server]\nverify = true\n[[upstream]]\nname = \"app\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
                [[route]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n";
    let shown = check(none).map(|_| ()).unwrap_err().to_string();
    assert!(shown.contains("[server] `verify` needs tokens"), "{shown}");
}

#[test]
fn route_defaults_come_from_the_rest_of_the_file() {
    let text = format!(
        "[server]\nmax_body = \"1MiB\"\n[errors]\nstyle = \"detail\"\nlanguage = \"zh\"\n{}",
        MINIMAL.replace(
            ENDPOINTS,
            &format!("{ENDPOINTS}\nfirst_byte_timeout = \"7s\"")
        )
    );
    let config = check(&text).unwrap();
    let route = &config.routes[0];
    assert_eq!(route.max_body, 1 << 20);
    assert_eq!(route.errors, config.errors);
    assert_eq!(route.first_byte_timeout, Duration::from_secs(7));
    assert_eq!(route.sources, config.sources);
    assert_eq!(route.line, 19);
}

#[test]
fn what_captures_and_guards_need_is_named() {
    for (text, words) in [
        (
            "[[route.capture]]",
            "[route.capture 1 of \"generate\"] `id` is missing",
        ),
        (
            "[[route.capture]]\nid = \"job_id\"",
            "begin with a slash: \"/job_id\"",
        ),
        ("[[route.capture]]\nid = \"/a~\"", "write ~0 for ~"),
        ("[[route.capture]]\nid = \"/**/**\"", "has ** twice"),
        ("[[route.capture]]\nid = \"{job}\"", "known here: rest"),
        (
            "[[route.capture]]\nid = \"/a\"\nkind = \"file\"",
            "`id` is a job's",
        ),
        (
            "[[route.capture]]\nkind = \"file\"",
            "there is nothing to be kept",
        ),
        (
            "[[route.capture]]\nid = \"/a\"\nextra = { status = \"/b\" }",
            "`extra` cannot set `status`",
        ),
        (
            "[[route.capture]]\nid = \"/a\"\nextra = { a = \"/b\", \"a.b\" = \"/c\" }",
            "and a member within it",
        ),
        (
            "[[route.capture]]\nid = \"/a\"\n[[route.capture.file]]",
            "`name` is missing",
        ),
        (
            "[[route.guard]]",
            "[route.guard 1 of \"generate\"] a guard looks in one place",
        ),
        (
            "[[route.guard]]\npath = [\"rest\"]\nquery = [\"a\"]",
            "a guard looks in one place",
        ),
        (
            "[[route.guard]]\npath = [\"job_id\"]",
            "is not a parameter of the route's path",
        ),
        ("[[route.guard]]\nquery = []", "`query` is empty"),
        ("[[route.guard]]\nquery = [\"=a\"]", "names no parameter"),
        (
            "[[route.guard]]\npath = [\"rest\"]\nunknown = \"claim\"",
            "would give a job to whoever asks for it first",
        ),
        ("[jobs]\nmax_age = \"2y\"", "is not a duration"),
    ] {
        let problems = check(&format!("{MINIMAL}\n{text}")).map(|_| ());
        let shown = problems.unwrap_err().to_string();
        assert!(shown.contains(words), "{text}\n{shown}");
    }
    let public = MINIMAL.replace(
        "upstream = \"app\"",
        "upstream = \"app\"\nauth = \"public\"",
    );
    let problems = check(&format!("{public}\n[[route.guard]]\npath = [\"rest\"]")).map(|_| ());
    assert!(
        problems
            .unwrap_err()
            .to_string()
            .contains("a public route knows no caller")
    );
}

#[test]
fn jobs_are_kept_beside_the_config_unless_it_says_where() {
    let guard = format!("{MINIMAL}\n[[route.guard]]\npath = [\"rest\"]");
    assert_eq!(check(MINIMAL).unwrap().store, None);
    let beside = StorePlace::Sqlite("portcullis.db".into());
    assert_eq!(check(&guard).unwrap().store.unwrap().place, beside);
    let named = format!("{guard}\n[store]\nurl = \"sqlite:jobs.db\"");
    let place = StorePlace::Sqlite("jobs.db".into());
    assert_eq!(check(&named).unwrap().store.unwrap().place, place);
}
