//! Tokens made here: for `portcullis token mint`, the demo, and tests. The gateway itself issues none.

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// A key that tokens are signed with.
#[derive(Clone, Debug)]
pub struct MintKey {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    key: EncodingKey,
}

/// Why a token could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum MintError {
    #[error("the key does not fit the algorithm")]
    KeyMismatch,
    #[error("the claims cannot be written as JSON")]
    Claims,
}

impl MintKey {
    /// A shared secret for HS256, HS384 or HS512.
    pub fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, MintError> {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                Ok(Self::of(algorithm, EncodingKey::from_secret(secret)))
            }
            _ => Err(MintError::KeyMismatch),
        }
    }

    /// A private key as PEM text: PKCS#8, or PKCS#1 for RSA.
    pub fn pem(algorithm: Algorithm, text: &str) -> Result<Self, MintError> {
        let bytes = text.as_bytes();
        let key = match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                return Err(MintError::KeyMismatch);
            }
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(bytes),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(bytes),
            _ => EncodingKey::from_rsa_pem(bytes),
        };
        Ok(Self::of(
            algorithm,
            key.map_err(|_| MintError::KeyMismatch)?,
        ))
    }

    /// The same key, named `kid` in the tokens' headers.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// A signed token with these claims.
    pub fn mint(&self, claims: &impl Serialize) -> Result<String, MintError> {
        // A second installation is refused, which is as good: it is the same provider.
        let _ = DEFAULT_PROVIDER.install_default();
        let claims = serde_json::to_value(claims).map_err(|_| MintError::Claims)?;
        let mut header = Header::new(self.algorithm);
        header.kid = self.kid.as_deref().map(Into::into);
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| MintError::KeyMismatch)
    }

    fn of(algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            algorithm,
            kid: None,
            key,
        }
    }
}

/// An HS256 token with these claims.
pub fn mint_hs256(secret: &[u8], claims: &impl Serialize) -> Result<String, MintError> {
    MintKey::secret(Algorithm::HS256, secret)?.mint(claims)
}

/// The bare MAC, for tests that forge what no minter makes.
#[cfg(test)]
pub(crate) fn sign_hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}
