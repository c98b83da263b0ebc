//! Whose job it is, for upstreams that know no users. `capture.rs` reads the jobs out of a JSON document, `tap.rs` listens to an
//! answer in passing (`coding.rs` where it is compressed, `hold.rs` where nothing may pass before), `watch.rs` says what becomes
//! of what was heard. `guard.rs` holds a
//! request against its owner before the upstream is asked; `named.rs` reads what it names; `veil.rs` hides that of a preflight. `keeper.rs` is the one that
//! asks the store.

pub mod capture;
pub mod coding;
pub mod guard;
pub mod hold;
pub mod keeper;
pub mod named;
pub mod owner;
pub mod pointer;
pub mod tap;
mod veil;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use self::guard::{Asked, Guarded};
use self::keeper::Keeper;
use self::named::Naming;
use self::veil::Veil;
use self::watch::Watch;
use crate::config::{self, Capture, CaptureFrom, Guard};
use crate::policy::Permit;
use crate::refusal::Refusal;

/// What a route has to do with jobs, compiled.
pub struct Jobs {
    captures: Arc<[Capture]>,
    guards: Vec<Guard>,
    veil: Option<Veil>,
    keeper: Option<Arc<Keeper>>,
    timeout: Duration,
    route: Arc<str>,
}

impl Jobs {
    /// The part of a route; `None` where it has nothing to do with jobs. Without a keeper nothing is kept, and what is
    /// guarded is refused.
    pub fn build(
        route: &config::Route,
        config: &config::Jobs,
        keeper: Option<&Arc<Keeper>>,
    ) -> Option<Box<Self>> {
        route.knows_jobs().then(|| {
            Box::new(Self {
                captures: route.captures.clone().into(),
                guards: route.guards.clone(),
                veil: Veil::build(route),
                keeper: keeper.map(Arc::clone),
                timeout: config.store_timeout,
                route: Arc::clone(&route.name),
            })
        })
    }

    /// Whether its answers are listened to in this way.
    pub fn listens_to(&self, from: CaptureFrom) -> bool {
        self.captures.iter().any(|capture| capture.from == from)
    }

    /// Lets a request pass that names only what is its caller's. What is left is a watch on its answer, where there is
    /// one to be kept.
    ///
    /// # Errors
    /// `NotOwner`, `JobAmbiguous`, `JobNotKept`; `BodyTooLarge`, `BodyTimeout`; `StoreUnavailable` where nobody can tell.
    pub async fn admit(
        &self,
        permit: &Permit,
        naming: &mut Naming<'_>,
    ) -> Result<Option<Watch>, Refusal> {
        let guarded = Guarded {
            permit,
            keeper: self.keeper.as_ref(),
            timeout: self.timeout,
        };
        for guard in &self.guards {
            guarded.pass(guard, naming).await?;
        }
        Ok(self.watch(permit, naming))
    }

    /// The target that a preflight goes on with: without what it names to guards, of which nobody knows whose it is.
    ///
    /// # Errors
    /// When what is left is no target.
    pub fn unnamed(&self, target: &Uri) -> Result<Uri, Refusal> {
        match &self.veil {
            Some(veil) => veil.over(target),
            None => Ok(target.clone()),
        }
    }

    /// What a request with this query and these parameters of its path names at each guard: whose it is is not asked.
    pub fn asked<'r>(
        &self,
        query: Option<&str>,
        params: &dyn Fn(&str) -> Option<&'r str>,
    ) -> Vec<Asked<'_>> {
        let guards = self.guards.iter();
        guards
            .map(|guard| Asked::of(guard, query, params))
            .collect()
    }

    /// What is listened for in answers.
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// A watch on what the upstream will answer to somebody who can own something.
    fn watch(&self, permit: &Permit, naming: &Naming<'_>) -> Option<Watch> {
        let identity = permit.identity()?;
        if self.captures.is_empty() || *naming.method == Method::HEAD {
            return None;
        }
        let param = |capture: &Capture| match &capture.id {
            config::JobId::At(_) | config::JobId::File => None,
            config::JobId::Param(name) => naming.param(name),
        };
        Some(Watch {
            captures: Arc::clone(&self.captures),
            params: self.captures.iter().map(param).collect(),
            keeper: self.keeper.as_ref().map(Arc::clone),
            identity: Arc::clone(identity),
            client: permit.client(),
            route: Arc::clone(&self.route),
            timeout: self.timeout,
            note: naming.note.clone(),
        })
    }
}

/// Whether an answer of this type may hold what a capture looks for.
pub fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else {
        return true;
    };
    let essence = value.as_bytes().split(|&byte| byte == b';').next();
    let essence = essence
        .unwrap_or_default()
        .trim_ascii()
        .to_ascii_lowercase();
    let known: [&[u8]; 3] = [b"application/json", b"text/json", b"text/plain"];
    known.contains(&&*essence) || essence.ends_with(b"+json")
}
