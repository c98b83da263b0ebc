//! The gateway's own calls on the public listener, as routes that no `[[route]]` says and none may hide.

use super::raw::Table;
use super::route::{self, Common};
use super::{Accounts, Assertion, Auth, PathPattern, Route, Segment, Server, Target, pattern};

/// What the gateway answers itself on the public listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCall {
    /// `/healthz`: alive.
    Healthz,
    /// `/readyz`: ready, part by part.
    Readyz,
    /// `<mount>/verify`: who calls, for another proxy.
    Verify,
    /// `<mount>/tickets`: a ticket for a stream's URL.
    Tickets,
    /// `<mount>/streams/renew`: a newer token for the streams of its session.
    Renew,
    /// `<mount>/jwks.json`: the public keys of all that the gateway signs.
    Jwks,
    /// Everything else under the mount: nothing is there, and none of it is an upstream's.
    Nothing,
}

/// Which calls there are, and where.
pub(super) struct Own {
    mount: Box<str>,
    calls: Vec<Call>,
}

/// Who signs with the gateway's own keys.
#[derive(Clone, Copy)]
pub(super) struct Signers<'c> {
    pub(super) assertion: Option<&'c Assertion>,
    pub(super) accounts: Option<&'c Accounts>,
    /// There are tickets.
    pub(super) tickets: bool,
    /// There are tokens, and places for them.
    pub(super) verifies: bool,
}

struct Call {
    call: OwnCall,
    /// The name of its route: no `[[route]]` can be called so.
    name: &'static str,
    path: Box<str>,
    auth: Auth,
}

impl Own {
    /// Those that `[server]`, `[assertion]` and `[accounts]` switch on. The mount is always the gateway's.
    pub(super) fn of(server: &Server, signers: Signers<'_>) -> Self {
        let mount = &server.mount;
        let mut own = Self {
            mount: mount.clone(),
            calls: Vec::new(),
        };
        if server.public_probes {
            own.open(OwnCall::Healthz, "own:healthz", "/healthz");
            own.open(OwnCall::Readyz, "own:readyz", "/readyz");
        }
        if server.verify {
            own.calls.push(Call {
                call: OwnCall::Verify,
                name: "own:verify",
                path: format!("{mount}/verify").into(),
                auth: Auth::Required,
            });
        }
        let Signers {
            assertion,
            accounts,
            tickets,
            verifies,
        } = signers;
        let bearers = [
            (OwnCall::Tickets, "own:tickets", "tickets", tickets),
            (OwnCall::Renew, "own:renew", "streams/renew", true),
        ];
        for (call, name, path, on) in bearers {
            if verifies && on {
                own.calls.push(Call {
                    call,
                    name,
                    path: format!("{mount}/{path}").into(),
                    auth: Auth::Required,
                });
            }
        }
        if assertion.is_some() || accounts.is_some() {
            own.open(OwnCall::Jwks, "own:jwks", &format!("{mount}/jwks.json"));
        }
        let well_known =
            assertion.is_some_and(|it| it.well_known) || accounts.is_some_and(|it| it.well_known);
        if well_known && **mount != *"/.well-known" {
            own.open(OwnCall::Jwks, "own:jwks", "/.well-known/jwks.json");
        }
        for rest in ["", "/", "/{*rest}"] {
            let path = format!("{mount}{rest}");
            own.open(OwnCall::Nothing, "own:nothing", &path);
        }
        own
    }

    /// A call that anybody may make.
    fn open(&mut self, call: OwnCall, name: &'static str, path: &str) {
        self.calls.push(Call {
            call,
            name,
            path: path.into(),
            auth: Auth::Public,
        });
    }

    /// Why a route may not have this path: it would stand where the gateway answers itself.
    fn clash(&self, path: &PathPattern) -> Option<(String, &'static str)> {
        if begins_with(path, &self.mount) {
            let what = format!(
                "`path` lies under `mount`, \"{}\", where the gateway's own calls are",
                self.mount
            );
            return Some((what, "choose another path, or another [server] mount"));
        }
        let call = self.calls.iter().find(|call| is_same(path, &call.path))?;
        let what = format!("`path` is that of the gateway's own {}", call.path);
        Some((what, mend(call.call)))
    }
}

/// How a route gets its path back.
fn mend(call: OwnCall) -> &'static str {
    match call {
        OwnCall::Healthz | OwnCall::Readyz => {
            "choose another path, or set [server] public_probes = false"
        }
        OwnCall::Jwks => {
            "choose another path, or set well_known = false in [assertion] and [accounts]"
        }
        OwnCall::Verify | OwnCall::Tickets | OwnCall::Renew | OwnCall::Nothing => {
            "choose another path"
        }
    }
}

/// Reports a route that stands in the way of an own call, or behind one.
pub(super) fn keep_apart(table: &Table<'_>, own: &Own, path: &PathPattern) {
    if let Some((what, mend)) = own.clash(path) {
        table.problem("path", &what, mend);
    }
}

/// The routes of all own calls.
pub(super) fn routes(top: &Table<'_>, common: &Common<'_>) -> Vec<Route> {
    complain(top, common);
    let calls = common.own.calls.iter();
    calls
        .filter_map(|call| {
            let path = pattern::path(&call.path).ok()?;
            let mut table = top.nothing("route.");
            let target = (path, Target::Own(call.call));
            let route = route::common(&mut table, common, (call.name.into(), target));
            Some(Route {
                auth: call.auth,
                // Nothing of these is an upstream's, so nothing goes to one.
                assertion: false,
                ..route
            })
        })
        .collect()
}

/// What the calls need and do not have.
fn complain(top: &Table<'_>, common: &Common<'_>) {
    let line = top.line_of("server");
    let own = &common.own;
    let verifies = own.calls.iter().any(|call| call.call == OwnCall::Verify);
    if verifies && (common.issuers.len() == 0 || common.sources.is_empty()) {
        top.report.problem(
            line,
            "[server] `verify` needs tokens, but there is no [[issuer]] or no place for one",
            "add an [[issuer]] and a source, or set verify = false",
        );
    }
    let probe = own.calls.iter().any(|call| {
        let is_probe = matches!(call.call, OwnCall::Healthz | OwnCall::Readyz);
        is_probe && call.path.eq_ignore_ascii_case(&own.mount)
    });
    if probe {
        top.report.problem(
            line,
            format!("[server] `mount` is \"{}\", where a probe is", own.mount),
            "choose another mount",
        );
    }
}

/// Whether every path of the pattern lies at or under `mount`, in any case.
fn begins_with(path: &PathPattern, mount: &str) -> bool {
    let mut segments = path.0.iter();
    pieces(mount).all(|piece| segments.next().is_some_and(|it| is_literal(it, piece)))
}

/// Whether the pattern is `path`, in any case, with or without a slash at its end.
fn is_same(pattern: &PathPattern, path: &str) -> bool {
    let ends = match pattern.0.split_last() {
        Some((Segment::Literal(last), before)) if last.is_empty() => before,
        _ => &pattern.0[..],
    };
    ends.len() == pieces(path).count()
        && pieces(path)
            .zip(ends)
            .all(|(piece, it)| is_literal(it, piece))
}

fn pieces(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

fn is_literal(segment: &Segment, piece: &str) -> bool {
    matches!(segment, Segment::Literal(text) if text.eq_ignore_ascii_case(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_under_the_mount_is_told_from_one_beside_it() {
        for (path, under) in [
            ("/_portcullis", true),
            ("/_portcullis/", true),
            ("/_portcullis/verify", true),
            ("/_PORTCULLIS/x/{y}", true),
            ("/_portcullis/{*rest}", true),
            ("/_portcullisx", false),
            ("/{a}/verify", false),
            ("/{*rest}", false),
            ("/", false),
        ] {
            let pattern = pattern::path(path).unwrap();
            assert_eq!(begins_with(&pattern, "/_portcullis"), under, "{path}");
        }
    }

    #[test]
    fn a_path_is_the_same_in_any_case_and_with_a_slash_behind() {
        for (path, same) in [
            ("/healthz", true),
            ("/healthz/", true),
            ("/HealthZ", true),
            ("/healthz/x", false),
            ("/{x}", false),
            ("/", false),
        ] {
            let pattern = pattern::path(path).unwrap();
            assert_eq!(is_same(&pattern, "/healthz"), same, "{path}");
        }
    }
}
