//! The gateway's side of the demo: its config as a text, and the tokens that it honours beside those of its own
//! users. Their secret is random at each start and lives in this process only.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::clock::{Clock, UnixSeconds};
use crate::identity::mint::{MintError, mint_hs256};
use crate::secret::Secret;

/// The demo's shared secret, as it stands in the config and signs its tokens.
#[derive(Clone, Debug)]
pub struct Key(Secret<String>);

impl Key {
    /// A new one, of 32 random bytes.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(Secret::new(URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The gateway's config: it listens at the first address of `sockets`, forwards to the second, and keeps its users
    /// in `folder`.
    pub fn config(&self, sockets: (SocketAddr, SocketAddr), folder: &Path) -> String {
        let file = |scheme: &str, name: &str| {
            let path = format!("{scheme}{}", folder.join(name).display());
            toml::Value::String(path).to_string()
        };
        TEMPLATE
            .replace("{{listen}}", &sockets.0.to_string())
            .replace("{{upstream}}", &sockets.1.to_string())
            .replace("{{issuer}}", ISSUER)
            .replace("{{secret}}", self.0.expose())
            .replace("{{store}}", &file("sqlite:", "portcullis.db"))
            .replace("{{keep}}", &file("", "portcullis.secret"))
    }

    /// The tokens to try: `token` for twelve hours, `short_token` for twenty seconds, `expired_token`.
    ///
    /// # Errors
    /// When the token cannot be signed.
    pub fn tokens(&self, clock: &Clock) -> Result<Value, MintError> {
        let now = clock.now();
        Ok(json!({
            "token": self.token(now, now + 12 * 3600)?,
            "short_token": self.token(now, now + 20)?,
            "expired_token": self.token(now - 7200, now - 3600)?,
        }))
    }

    fn token(&self, from: UnixSeconds, until: UnixSeconds) -> Result<String, MintError> {
        let claims = json!({
            "iss": ISSUER,
            "aud": "authenticated",
            "sub": "7f3c1c52-demo-user",
            "email": "ada@demo.invalid",
            "role": "authenticated",
            "is_anonymous": false,
            "session_id": "demo-session",
            "iat": from,
            "exp": until,
        });
        mint_hs256(self.0.expose().as_bytes(), &claims)
    }
}

const ISSUER: &str = "portcullis-demo";
const TEMPLATE: &str = include_str!("config.toml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StorePlace;
    use crate::identity::jwt::Jws;

    #[test]
    fn the_config_is_one_that_the_gateway_takes() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        let folder = Path::new("/tmp/a \"demo\" with\\signs");
        let text = Key::random().unwrap().config((address, address), folder);
        assert!(!text.contains("{{"));
        let config = crate::config::parse(&text, "demo.toml".as_ref(), &|_| None).unwrap();
        assert_eq!(config.tokens.leeway, 0);
        let place = StorePlace::Sqlite(folder.join("portcullis.db"));
        assert_eq!(config.store.map(|store| store.place), Some(place));
    }

    #[test]
    fn the_tokens_to_try_are_well_formed() {
        let tokens = Key::random().unwrap().tokens(&Clock::manual(1_900_000_000));
        for (name, token) in tokens.unwrap().as_object().unwrap() {
            assert!(Jws::read(token.as_str().unwrap()).is_ok(), "{name}");
        }
    }
}
