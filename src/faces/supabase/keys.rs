//! The API keys: whole texts that are compared and never read, so that a user's token can never be one. A key says which
//! application calls, not who.

use crate::config;
use crate::secret::Secret;

use super::refusals::Failure;

/// The keys of `[api.supabase]`.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<(Secret<String>, Right)>,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whatever anybody may do.
    Anon,
    /// Administering users.
    Service,
}

impl Keys {
    /// Takes the keys of the configuration.
    pub fn build(api: &config::SupabaseApi) -> Self {
        let all = |keys: &[Secret<String>], right| {
            let keys: Vec<_> = keys.iter().map(|key| (key.clone(), right)).collect();
            keys
        };
        let anon = all(&api.anon_keys, Right::Anon);
        let service = all(&api.service_keys, Right::Service);
        Self {
            keys: [anon, service].concat(),
        }
    }

    /// What the `apikey` of a request is good for. Where there are no keys, none is asked for.
    ///
    /// # Errors
    /// When it is missing or not known.
    pub fn right(&self, presented: Option<&str>) -> Result<Right, Failure> {
        match presented {
            _ if self.keys.is_empty() => Ok(Right::Anon),
            None | Some("") => Err(Failure::key("No API key found in request")),
            Some(key) => self.find(key).ok_or(Failure::key("Invalid API key")),
        }
    }

    /// The right of a bearer that is a key, as the clients send it where they have no user. An opaque key is only
    /// the echo of `apikey`, whatever it says itself; a JWT of the project speaks for itself.
    pub fn right_of_bearer(&self, bearer: &str, apikey: Right) -> Option<Right> {
        match bearer.starts_with("sb_") {
            true => Some(apikey),
            false => self.find(bearer),
        }
    }

    /// Looks at every key, whichever it is: how long it takes tells nothing.
    fn find(&self, presented: &str) -> Option<Right> {
        let presented = Secret::new(presented.to_owned());
        self.keys.iter().fold(None, |found, (key, right)| {
            let same = *key == presented;
            found.or(same.then_some(*right))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(anon: &[&str], service: &[&str]) -> Keys {
        let all = |keys: &[&str], right| {
            let keys: Vec<_> = keys
                .iter()
                .map(|&key| (Secret::new(key.to_owned()), right))
                .collect();
            keys
        };
        Keys {
            keys: [all(anon, Right::Anon), all(service, Right::Service)].concat(),
        }
    }

    #[test]
    fn a_key_is_known_as_a_whole_or_not_at_all() {
        let keys = keys(
            &["sb_publishable_a", "eyJ.a.b"],
            &["sb_secret_b", "eyJ.s.b"],
        );
        let said = |key: Option<&str>| keys.right(key).map_err(|failure| failure.message);
        for (key, right) in [
            (Some("sb_publishable_a"), Ok(Right::Anon)),
            (Some("eyJ.a.b"), Ok(Right::Anon)),
            (Some("sb_secret_b"), Ok(Right::Service)),
            (Some("eyJ.s.b"), Ok(Right::Service)),
            (Some("sb_secret_"), Err("Invalid API key")),
            (Some("sb_secret_bb"), Err("Invalid API key")),
            (Some("SB_SECRET_B"), Err("Invalid API key")),
            (Some(""), Err("No API key found in request")),
            (None, Err("No API key found in request")),
        ] {
            assert_eq!(said(key), right, "{key:?}");
        }
    }

    #[test]
    fn where_there_are_no_keys_none_is_asked_for_and_none_is_a_service_key() {
        let keys = keys(&[], &[]);
        assert_eq!(keys.right(None), Ok(Right::Anon));
        assert_eq!(keys.right(Some("sb_secret_b")), Ok(Right::Anon));
        assert_eq!(keys.right_of_bearer("eyJ.s.b", Right::Anon), None);
    }

    #[test]
    fn an_opaque_bearer_is_never_more_than_the_key_beside_it() {
        let keys = keys(&["sb_publishable_a"], &["sb_secret_b", "eyJ.s.b"]);
        let right = |bearer, apikey| keys.right_of_bearer(bearer, apikey);
        assert_eq!(right("sb_secret_b", Right::Anon), Some(Right::Anon));
        assert_eq!(right("sb_anything", Right::Service), Some(Right::Service));
        assert_eq!(right("eyJ.s.b", Right::Anon), Some(Right::Service));
        assert_eq!(right("eyJ.x.b", Right::Service), None);
    }
}
