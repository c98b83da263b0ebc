//! The tokens that a session gives: how long they live, and how they are made.

use std::time::Duration;

use uuid::Uuid;

use super::passwords::Weakness;
use super::{AccountError, Accounts, Settings, SignedIn, refresh};
use crate::identity::access_token::{self, Life};
use crate::records::{Api, Session, TokenHash, User};
use crate::secret::Secret;

impl Settings {
    /// How long access tokens of an API live.
    pub(super) fn access_ttl(&self, api: Api) -> Duration {
        let apis = &self.config.apis;
        let own = match api {
            Api::App => apis.app.as_ref().and_then(|api| api.access_ttl),
            Api::Token => apis.token.as_ref().map(|api| api.access_ttl),
            Api::Supabase => apis.supabase.as_ref().and_then(|api| api.access_ttl),
            Api::Session => None,
        };
        own.unwrap_or(self.config.access_ttl)
    }

    /// How old sessions of an API and their refresh tokens may become.
    pub(super) fn limits(&self, api: Api) -> refresh::Limits {
        let token = self.config.apis.token.as_ref();
        refresh::Limits {
            lifetime: self.config.session_lifetime,
            idle: self.config.session_idle,
            token: token
                .filter(|_| api == Api::Token)
                .map(|api| api.refresh_ttl),
        }
    }
}

impl Accounts {
    /// The tokens of a session as it is in the store.
    pub(super) fn tokens(
        &self,
        user: User,
        session: Session,
        weaknesses: Vec<Weakness>,
    ) -> Result<SignedIn, AccountError> {
        let settings = self.settings();
        let now = self.clock.now();
        let expires_in = settings.access_ttl(session.api).as_secs();
        let expires_at = now.saturating_add(expires_in);
        let life = Life {
            issued_at: now,
            expires_at,
        };
        let claims = access_token::claims_of(&user, &session, &settings.config.issuer);
        let access_token = access_token::issue(&self.keyring, claims, life)
            .map_err(|error| AccountError::failed(&error))?;
        let refresh_token = match session.refresh_counter {
            0 => None,
            newest => Some(self.refresh_token(&session, newest)?),
        };
        Ok(SignedIn {
            access_token,
            expires_in,
            expires_at,
            refresh_token,
            weaknesses,
            user,
            session,
        })
    }

    fn refresh_token(
        &self,
        session: &Session,
        counter: u64,
    ) -> Result<Secret<String>, AccountError> {
        refresh::make(&self.vault, session.api, session.id, counter)
            .map_err(|error| AccountError::failed(&error))
    }
}

/// A new opaque session token, and what the store may know of it.
pub(super) fn opaque() -> (Secret<String>, TokenHash) {
    let token = Uuid::new_v4().to_string();
    let hash = hash(&token);
    (Secret::new(token), hash)
}

/// What the store knows of an opaque token: SHA-256 of its hyphenated lower-case text.
pub(super) fn hash(token: &str) -> TokenHash {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    TokenHash(hash)
}
