//! A request walked through the gate without being sent: the same functions in the same order as
//! `Gate::handle`, each finding kept. For `[[test]]` blocks, `check` and `explain`. Waits for nothing: keys
//! that have not been fetched are not there, and whose a job is is not asked.

use http::request::Parts;
use http::{HeaderMap, HeaderName, Request};

use crate::config::{Capture, Config, Problem, Problems, Test, TestCaller};
use crate::forward::headers::{Forwarding, Stamp};
use crate::gate::Gate;
use crate::identity::Caller;
use crate::identity::verifier::Step;
use crate::jobs::guard::Asked;
use crate::observe::request_id::RequestId;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::credential::{Credential, Found, Place};
use crate::request::head::Head;
use crate::request::peer::Peer;
use crate::route::{Route, Target};

/// What was found on the way, as far as the request came.
pub struct Rehearsal<'g> {
    /// The normalized head.
    pub head: Option<Head>,
    /// The route, and its parameters by name.
    pub route: Option<(&'g Route, Vec<(String, String)>)>,
    /// The credential that was found.
    pub credential: Option<Credential>,
    /// How its token was judged, step by step; empty where it was not looked at.
    pub steps: Vec<Step>,
    /// What it names at each guard of the route.
    pub asked: Vec<Asked<'g>>,
    /// The decision.
    pub decision: Result<Permit, Refusal>,
    /// The headers that would go upstream; empty for a refused request.
    pub sent: HeaderMap,
    /// The headers that came and would not go on as they came.
    pub removed: Vec<HeaderName>,
    /// The target that would go upstream.
    pub target: String,
}

impl<'g> Rehearsal<'g> {
    /// Walks `request` through `gate`, as `caller` where one is given instead of a token.
    pub fn of(gate: &'g Gate, request: Request<()>, peer: Peer, caller: Option<Caller>) -> Self {
        let (mut parts, ()) = request.into_parts();
        let mut rehearsal = Self {
            head: None,
            route: None,
            credential: None,
            steps: Vec::new(),
            asked: Vec::new(),
            decision: Err(Refusal::Internal),
            sent: HeaderMap::new(),
            removed: Vec::new(),
            target: String::new(),
        };
        let came = parts.headers.clone();
        rehearsal.decision = rehearsal.walk(gate, &mut parts, peer, caller);
        match rehearsal.send(parts, peer) {
            Ok(()) => rehearsal.removed = removed(&came, &rehearsal.sent),
            Err(refusal) => rehearsal.decision = Err(refusal),
        }
        rehearsal
    }

    /// What its answer would be listened to for.
    pub fn captures(&self) -> &[Capture] {
        let known = self
            .decision
            .as_ref()
            .is_ok_and(|it| it.identity().is_some());
        match &self.route {
            Some((route, _)) if known => route.jobs.as_ref().map_or(&[], |jobs| jobs.captures()),
            _ => &[],
        }
    }

    /// What would go upstream.
    fn send(&mut self, mut parts: Parts, peer: Peer) -> Result<(), Refusal> {
        if let (Ok(permit), Some(head), Some((route, _))) =
            (&self.decision, &self.head, &self.route)
            && let Some(carriage) = route.carriage()
        {
            let stamp = Stamp {
                id: &RequestId::mint(),
                forwarding: &Forwarding::from_peer(peer),
            };
            carriage.dress(&mut parts.headers, head, permit, stamp)?;
            self.sent = parts.headers;
            self.target = parts.uri.to_string();
        }
        Ok(())
    }

    fn walk(
        &mut self,
        gate: &'g Gate,
        parts: &mut Parts,
        peer: Peer,
        caller: Option<Caller>,
    ) -> Result<Permit, Refusal> {
        let head = gate.read(parts, peer)?;
        self.head = Some(head.clone());
        let found = gate.find(&head).ok_or(Refusal::RouteNotFound)?;
        let route = gate.route(&found);
        let params = found
            .params
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        self.route = Some((route, params.collect()));
        let taken = gate.take_credential(route, parts)?;
        let place = taken.found.place();
        let (caller, place) = match caller {
            // Verified claims stand for a token in a header: no cookie, no `Origin` to check.
            Some(caller) => (caller, Some(Place::Bearer)),
            None => (self.caller(gate, route, taken.found), place),
        };
        let permit = route.policy.decide(caller, place, &head)?;
        if let Target::Face(face) = &route.target {
            face.check(&head)?;
        }
        match (&route.jobs, head.preflight()) {
            (None, _) => {}
            (Some(jobs), Some(_)) => parts.uri = jobs.unnamed(&parts.uri)?,
            (Some(jobs), None) => {
                self.asked = jobs.asked(parts.uri.query(), &|name| found.params.get(name));
                for asked in &self.asked {
                    asked.verdict(&permit)?;
                }
            }
        }
        Ok(permit)
    }

    fn caller(&mut self, gate: &Gate, route: &Route, found: Found) -> Caller {
        let credential = match found {
            _ if !route.verifies() => return Caller::Guest,
            Found::Nothing => return Caller::Guest,
            Found::Bad(refusal, credential) => {
                self.credential = Some(credential.clone());
                return Caller::Unverified(refusal, credential);
            }
            Found::Token(credential) => credential,
        };
        self.credential = Some(credential.clone());
        let token = credential.token.expose();
        self.steps = gate.verifier().examine(token);
        match gate
            .verifier()
            .judge_for(&(&**token).into(), route.issuers())
        {
            Ok(identity) => Caller::Known(identity),
            Err(refusal) => Caller::Unverified(refusal, credential),
        }
    }
}

/// The names of those that came and are not sent as they came.
fn removed(came: &HeaderMap, sent: &HeaderMap) -> Vec<HeaderName> {
    let changed = |name: &&HeaderName| !came.get_all(*name).iter().eq(sent.get_all(*name));
    came.keys().filter(changed).cloned().collect()
}

/// Runs every `[[test]]` of the gate's configuration.
///
/// # Errors
/// Those that fail, each with its line and what came instead.
pub fn run_tests(gate: &Gate) -> Result<(), Problems> {
    let config = gate.config();
    let failed: Vec<_> = config
        .tests
        .iter()
        .filter_map(|test| failure(gate, config, test))
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Problems(failed))
    }
}

fn failure(gate: &Gate, config: &Config, test: &Test) -> Option<Problem> {
    let what = match rehearse(gate, test) {
        Ok(rehearsal) => mismatch(test, &rehearsal)?,
        Err(what) => what,
    };
    Some(Problem {
        file: config
            .files
            .first()
            .map_or_else(|| "".as_ref(), |file| &**file)
            .into(),
        line: test.line,
        what: format!("[test {:?}] {what}", test.name),
        mend: "mend the route or the test; `portcullis explain` tells each step".into(),
    })
}

fn rehearse<'g>(gate: &'g Gate, test: &Test) -> Result<Rehearsal<'g>, String> {
    let mut request = Request::builder()
        .method(test.method.clone())
        .uri(&*test.target);
    if !test
        .headers
        .iter()
        .any(|(name, _)| name == http::header::HOST)
    {
        request = request.header(http::header::HOST, "test.invalid");
    }
    for (name, value) in &test.headers {
        request = request.header(name, value);
    }
    let caller = match &test.caller {
        TestCaller::AsSent => None,
        TestCaller::Token(token) => {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
            None
        }
        TestCaller::Claims(issuer, claims) => {
            let claims = claims.clone().into_iter().collect();
            let identity = gate.verifier().identify_claims(*issuer, claims);
            let identity = identity
                .map_err(|refusal| format!("its claims are refused: {}", refusal.word()))?;
            Some(Caller::Known(identity.into()))
        }
    };
    let request = request
        .body(())
        .map_err(|error| format!("`request`: {error}"))?;
    let peer = Peer {
        address: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        secure: false,
    };
    Ok(Rehearsal::of(gate, request, peer, caller))
}

/// What came other than expected.
fn mismatch(test: &Test, rehearsal: &Rehearsal<'_>) -> Option<String> {
    let route = rehearsal.route.as_ref().map(|(route, _)| route.name);
    if let Some(expected) = &test.route
        && expected.as_deref() != route
    {
        let name =
            |route: Option<&str>| route.map_or("no route".to_owned(), |it| format!("{it:?}"));
        return Some(format!(
            "{} was expected to match, {} did",
            name(expected.as_deref()),
            name(route)
        ));
    }
    let reason = rehearsal.decision.as_ref().err();
    match (test.allow, reason, test.reason) {
        (true, Some(reason), _) => Some(format!(
            "was expected to pass, is refused: {}",
            reason.word()
        )),
        (false, None, _) => Some("was expected to be refused, passes".into()),
        (false, Some(reason), Some(expected)) if *reason != expected => Some(format!(
            "was expected to be refused as {}, is as {}",
            expected.word(),
            reason.word()
        )),
        _ => None,
    }
}
