//! The defaults that `config/portcullis.toml` tells, held equal to those of the code.

use super::*;

#[test]
fn the_reference_file_loads_and_says_the_defaults_that_the_code_has() {
    let reference = check(REFERENCE).unwrap();
    let minimal = check(MINIMAL).unwrap();
    let text = |config: &Config| {
        let mut config = config.clone();
        config.tests.clear();
        config.routes[0].line = 0;
        format!("{config:#?}")
    };
    assert_eq!(text(&reference), text(&minimal));
    assert!(reference.warnings.is_empty());
}

/// The lines of the reference that begin with one of `keys`, no longer commented out, from the section that begins
/// with `section` on.
fn commented(section: &str, keys: &[&str]) -> String {
    let (_, rest) = REFERENCE.split_once(&format!("# ── {section}")).unwrap();
    rest.lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            keys.iter()
                .any(|key| line.starts_with(&format!("{key} = ")))
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_defaults_that_stand_in_comments_are_those_of_the_code() {
    let jwks = MINIMAL
        .replace("HS256", "ES256")
        .replace(KEYS, "jwks_url = \"https://a.example/jwks\"\n#");
    let keys = [
        "jwks_refresh",
        "jwks_min_interval",
        "jwks_timeout",
        "jwks_max_stale",
    ];
    let settings = commented("Issuers", &keys);
    assert_eq!(settings.lines().count(), 4);
    let issuers = |text: &str| check(text).unwrap().issuers;
    assert_eq!(issuers(&jwks), issuers(&jwks.replace('#', &settings)));

    let health = format!("{ENDPOINTS}\nhealth.path = \"/health\"\n#");
    let health = MINIMAL.replace(ENDPOINTS, &health);
    let keys = ["interval", "timeout", "healthy", "unhealthy"];
    let settings = commented("Upstreams", &keys);
    assert_eq!(settings.lines().count(), 4);
    let settings: String = settings
        .lines()
        .map(|line| format!("health.{line}\n"))
        .collect();
    let upstreams = |text: &str| check(text).unwrap().upstreams;
    assert_eq!(
        upstreams(&health),
        upstreams(&health.replace('#', &settings))
    );
}

#[test]
fn the_defaults_of_redis_that_stand_in_comments_are_those_of_the_code() {
    let (_, rest) = REFERENCE.split_once("# ── Redis").unwrap();
    let (section, _) = rest.split_once("# ── Issuers").unwrap();
    let given: String = section
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        // What has no default, and what is of use elsewhere only.
        .filter(|line| {
            !["url", "sentinels", "nodes", "ca_file", "max_stale"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(given.lines().count(), 7, "{given}");
    let redis = |text: &str| check(&format!("{MINIMAL}\n{text}\nurl = \"redis://a\"")).unwrap();
    let (given, bare) = (redis(&given).redis, redis("[redis]").redis);
    assert!(given.is_some());
    assert_eq!(given, bare);
    let stale = redis("[redis]\nrevocation = \"stale\"").redis.unwrap();
    assert!(section.contains(&format!("# max_stale = \"{}s\"", stale.max_stale.as_secs())));
}

#[test]
fn the_defaults_of_accounts_that_stand_in_comments_are_those_of_the_code() {
    let (_, rest) = REFERENCE.split_once("# ── Accounts").unwrap();
    let (section, _) = rest.split_once("# ── Upstreams").unwrap();
    let is_key = |line: &str| {
        line.starts_with('[')
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
    };
    let given: String = section
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| is_key(line))
        // What has no default: each is there or not.
        .filter(|line| {
            ![
                "secret",
                "[accounts.admin",
                "username",
                "password",
                "url",
                "file",
                "menu",
                "anon_",
                "service_",
            ]
            .iter()
            .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let bare = r#"
        [accounts]
        issuer = "https://gateway.example/auth/v1"
        [api]
        app.mount = "/api/v1/base"
        app.access_ttl = "1h"
        session.auth_mount = "/api/auth"
        session.sessions_mount = "/api/sessions"
        token.mount = "/auth"
        supabase.mount = "/auth/v1"
        supabase.access_ttl = "1h"
    "#;
    let accounts = |text: &str| check(&format!("{MINIMAL}\n{text}")).unwrap().accounts;
    let (given, bare) = (accounts(&given).unwrap(), accounts(bare).unwrap());
    assert_eq!(format!("{given:#?}"), format!("{bare:#?}"));
}

#[test]
fn the_defaults_of_captures_and_guards_that_stand_in_comments_are_those_of_the_code() {
    let (_, rest) = REFERENCE.split_once("close_limited = 4429").unwrap();
    let (section, _) = rest.split_once("# ── Tests").unwrap();
    let given = |only: &[&str]| -> String {
        let lines = section.lines().filter_map(|line| line.strip_prefix("# "));
        let lines = lines.filter(|line| {
            line.starts_with("[[")
                || line
                    .split_once(" = ")
                    .is_some_and(|(key, _)| only.contains(&key))
        });
        lines.map(|line| format!("{line}\n")).collect()
    };
    let needed = ["id", "name", "path"];
    let all = [
        &needed[..],
        &[
            "from",
            "jobs",
            "max_size",
            "on_failure",
            "claim",
            "space",
            "part",
            "scope",
            "missing",
        ],
    ]
    .concat();
    let guarded = MINIMAL.replace("{*rest}", "{job_id}");
    let routes = |text: &str| check(&format!("{guarded}\n{text}")).unwrap().routes;
    let (given, bare) = (routes(&given(&all)), routes(&given(&needed)));
    let capture = |routes: &[Route]| Capture {
        claim: true,
        ..routes[0].captures[0].clone()
    };
    assert_eq!(capture(&given), capture(&bare));
    assert_eq!(given[0].guards, bare[0].guards);
    assert_eq!(bare[0].guards[0].unknown, Unknown::Deny);
    assert!(!bare[0].captures[0].claim, "the route is guarded");
}
