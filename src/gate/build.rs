//! How a gate is made of a configuration and of what outlives it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Config, Problem, Problems};
use crate::forward::headers::Screens;
use crate::gate::Gate;
use crate::identity::assertion::Seal;
use crate::identity::keyring::{Keyring, KeyringError, SigningKey};
use crate::identity::verifier::Verifier;
use crate::limits::Limits;
use crate::observe::access::Switches;
use crate::request::credential::Sources;
use crate::request::head::HeadRules;
use crate::resources::Resources;
use crate::route::router::{Conflict, Router};
use crate::route::{Materials, Route};

impl Gate {
    /// Compiles a configuration.
    ///
    /// # Errors
    /// What only shows when the parts are put together: routes that shadow each other, keys that cannot be
    /// used.
    pub fn build(config: Config, resources: &Resources) -> Result<Self, Problems> {
        let blame = Blame(config.files.first().map(PathBuf::as_path));
        let all = [&config.routes[..], &config.own].concat();
        let router = Router::build(&all)
            .map_err(|conflicts| blame.all(conflicts.iter().map(Conflict::parts)))?;
        let verifier = Verifier::build(&config, resources.key_sources(), resources.clock.clone())
            .map_err(|error| blame.one(&error))?
            .telling(&resources.sightings)
            .heeding(&resources.bans);
        let seal = seal(&config, resources)
            .map_err(|(line, error)| blame.all([(line, error.to_string(), MEND_KEY.to_owned())]))?;
        let materials = Materials {
            config: &config,
            resources,
            seal: seal.as_ref(),
            screens: &Screens::build(&config),
        };
        let routes = all
            .iter()
            .map(|route| Route::build(route, &materials).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(|error| blame.one(&error))?;
        let (counts, clock) = (&resources.counts, resources.clock.clone());
        Ok(Self {
            limits: Limits::build(&config.limits, counts, clock, &resources.metrics),
            head_rules: HeadRules::build(&config.server),
            everywhere: match config.tickets {
                Some(_) => Sources::build(config.every_source()).with_tickets(),
                None => Sources::build(config.every_source()),
            },
            sink: resources.sink.with(switches(&config.log)),
            router,
            routes,
            verifier,
            config,
        })
    }
}

/// What assertions are signed with, where `[assertion]` says so; its line, where its key cannot be used.
fn seal(config: &Config, resources: &Resources) -> Result<Option<Seal>, (usize, KeyringError)> {
    let Some(assertion) = &config.assertion else {
        return Ok(None);
    };
    let (pem, kid) = (assertion.key.expose(), assertion.key_id.as_deref());
    let key = SigningKey::pem(assertion.algorithm, pem, kid);
    let key = key.map_err(|error| (assertion.line, error))?;
    let keyring = Arc::new(Keyring::new(key, Vec::new()));
    let header = &config.identity.assertion_header;
    Ok(Some(Seal::new(
        keyring,
        resources.clock.clone(),
        assertion,
        header,
    )))
}

const MEND_KEY: &str = "[assertion] `algorithm` must be that of the key: P-256 for ES256, RSA of 2048 bits or \
                        more for RS256, Ed25519 for EdDSA";

/// Turns what only shows at the build into problems of the file.
struct Blame<'c>(Option<&'c Path>);

impl Blame<'_> {
    fn one(&self, error: &dyn std::error::Error) -> Problems {
        self.all([(0, error.to_string(), String::new())])
    }

    fn all(&self, found: impl IntoIterator<Item = (usize, String, String)>) -> Problems {
        let file: Arc<Path> = self.0.unwrap_or(Path::new("")).into();
        let problems = found.into_iter().map(|(line, what, mend)| Problem {
            file: Arc::clone(&file),
            line,
            what,
            mend,
        });
        Problems(problems.collect())
    }
}

/// What of it is told, as `[log]` says.
pub fn switches(log: &config::Log) -> Switches {
    Switches {
        format: log.format,
        access: log.access,
        audit: log.audit,
        email: log.email,
    }
}
