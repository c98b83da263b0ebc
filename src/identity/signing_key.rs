//! One private key of the gateway's own: parsed once, bound to its algorithm, with its public part as others get it.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use serde_json::Value;

use crate::identity::key::Key;
use crate::secret::Secret;

/// A private key, parsed once and bound to its algorithm.
pub struct SigningKey {
    kid: Box<str>,
    pair: Pair,
    /// `None`: a shared secret, which is shown to nobody.
    public: Option<Jwk>,
    verifying: Key,
}

/// A private key that was just made, as `SigningKey::stored` reads it again.
pub struct NewKey {
    /// Its name: the thumbprint of its public part.
    pub kid: Box<str>,
    /// PKCS#8; of HS256 the secret itself.
    pub private: Secret<Vec<u8>>,
}

/// The key itself, by kind.
enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hs256(Box<hmac::Key>),
}

/// Why a key cannot be used, or nothing can be signed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not PEM, or of another type, curve or size than the algorithm wants.
    #[error("the private key does not fit its algorithm")]
    Mismatch,
    /// The gateway does not sign with this algorithm.
    #[error("the algorithm is none that the gateway signs with")]
    Unsupported,
    /// There is no key.
    #[error("there is no key to sign with")]
    NoKey,
    /// The library failed.
    #[error("the signature could not be made")]
    Failed,
}

impl SigningKey {
    /// A private key as PEM text (PKCS#8; PKCS#1 for RSA and SEC1 for EC too), for ES256, RS256 or EdDSA.
    /// `kid`: its name; `None`: its thumbprint.
    ///
    /// # Errors
    /// When the key is not one for the algorithm.
    pub fn pem(algorithm: Algorithm, text: &str, kid: Option<&str>) -> Result<Self, KeyringError> {
        let der =
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyringError::Mismatch)?;
        Self::asymmetric(Pair::read(algorithm, &der)?, kid)
    }

    /// A private key as the store keeps it: PKCS#8; of HS256 the secret itself, 32 bytes or more.
    ///
    /// # Errors
    /// When the key is not one for the algorithm.
    pub fn stored(algorithm: Algorithm, private: &[u8], kid: &str) -> Result<Self, KeyringError> {
        if algorithm == Algorithm::HS256 {
            return Self::symmetric(private, kid);
        }
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private));
        Self::asymmetric(Pair::read(algorithm, &der)?, Some(kid))
    }

    /// A new private key for ES256, RS256 (2048 bits, which takes a moment), EdDSA or HS256.
    ///
    /// # Errors
    /// When the gateway does not sign with the algorithm, or the library fails.
    pub fn make(algorithm: Algorithm) -> Result<NewKey, KeyringError> {
        let private = match algorithm {
            Algorithm::HS256 => random::<32>()?.to_vec(),
            _ => Pair::generate(algorithm)?.pkcs8()?,
        };
        NewKey::of(algorithm, private, None)
    }

    /// A private key that an operator brings: as `pem` reads it, or of HS256 the secret itself, 32 bytes or more, of which
    /// line ends behind it are no part. `kid`: its name; `None`: its thumbprint, and a secret's is made up.
    ///
    /// # Errors
    /// When the key is not one for the algorithm.
    pub fn given(
        algorithm: Algorithm,
        text: &str,
        kid: Option<&str>,
    ) -> Result<NewKey, KeyringError> {
        let private = match algorithm {
            Algorithm::HS256 => {
                let secret = text.trim_end_matches(['\r', '\n']).as_bytes().to_vec();
                Some(secret).filter(|secret| secret.len() >= 32)
            }
            _ => {
                let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok();
                der.map(|der| Pair::read(algorithm, &der)?.pkcs8())
                    .transpose()?
            }
        };
        NewKey::of(algorithm, private.ok_or(KeyringError::Mismatch)?, kid)
    }

    /// Its name in tokens and in the JWKS.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What verifies what it signs, bound to its algorithm.
    pub fn verifying(&self) -> &Key {
        &self.verifying
    }

    /// Its public part; `None` for a shared secret.
    pub(crate) fn public(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// A compact JWS over `claims`, whose header says that it is a `typ`.
    ///
    /// # Errors
    /// When the claims are no JSON, or the library fails.
    pub fn sign(&self, typ: &'static str, claims: &impl Serialize) -> Result<String, KeyringError> {
        let header = Header {
            alg: self.pair.alg(),
            typ,
            kid: &self.kid,
        };
        let mut token = String::with_capacity(512);
        for part in [serde_json::to_vec(&header), serde_json::to_vec(claims)] {
            let part = part.map_err(|_| KeyringError::Failed)?;
            if !token.is_empty() {
                token.push('.');
            }
            URL_SAFE_NO_PAD.encode_string(part, &mut token);
        }
        let signature = self.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn asymmetric(pair: Pair, kid: Option<&str>) -> Result<Self, KeyringError> {
        let mut jwk = pair.jwk()?;
        let kid: Box<str> = kid.map_or_else(|| jwk.thumbprint(), Box::from);
        jwk.kid.clone_from(&kid);
        let verifying = verifying(&serde_json::to_value(&jwk).unwrap_or_default())?;
        Ok(Self {
            kid,
            pair,
            public: Some(jwk),
            verifying,
        })
    }

    fn symmetric(secret: &[u8], kid: &str) -> Result<Self, KeyringError> {
        let jwk = serde_json::json!({
            "kty": "oct", "alg": "HS256", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret),
        });
        Ok(Self {
            kid: kid.into(),
            pair: Pair::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret))),
            public: None,
            verifying: verifying(&jwk)?,
        })
    }
}

impl NewKey {
    fn of(algorithm: Algorithm, private: Vec<u8>, kid: Option<&str>) -> Result<Self, KeyringError> {
        let kid = match (kid, algorithm) {
            (Some(kid), _) => kid.into(),
            // A secret has no public part to be named by.
            (None, Algorithm::HS256) => URL_SAFE_NO_PAD.encode(random::<16>()?).into(),
            (None, _) => SigningKey::stored(algorithm, &private, "new")?
                .public
                .ok_or(KeyringError::Failed)?
                .thumbprint(),
        };
        Ok(Self {
            kid,
            private: Secret::new(private),
        })
    }
}

impl Pair {
    fn generate(algorithm: Algorithm) -> Result<Self, KeyringError> {
        let pair = match algorithm {
            Algorithm::ES256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Es256)
            }
            Algorithm::RS256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Self::Rs256),
            Algorithm::EdDSA => Ed25519KeyPair::generate().map(Self::Ed25519),
            _ => return Err(KeyringError::Unsupported),
        };
        pair.map_err(|_| KeyringError::Failed)
    }

    /// The private key, as `read` reads it.
    fn pkcs8(&self) -> Result<Vec<u8>, KeyringError> {
        let document = match self {
            Self::Es256(pair) => pair.to_pkcs8v1().map(|it| it.as_ref().to_vec()),
            Self::Rs256(pair) => {
                let der: Result<Pkcs8V1Der<'_>, _> = pair.as_der();
                der.map(|it| it.as_ref().to_vec())
            }
            Self::Ed25519(pair) => pair.to_pkcs8().map(|it| it.as_ref().to_vec()),
            Self::Hs256(_) => return Err(KeyringError::Unsupported),
        };
        document.map_err(|_| KeyringError::Failed)
    }

    fn read(algorithm: Algorithm, der: &PrivateKeyDer<'_>) -> Result<Self, KeyringError> {
        let bytes = der.secret_der();
        let pair = match (algorithm, der) {
            (Algorithm::ES256, PrivateKeyDer::Pkcs8(_) | PrivateKeyDer::Sec1(_)) => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes)
                    .map(Self::Es256)
            }
            (Algorithm::RS256, PrivateKeyDer::Pkcs8(_)) => {
                RsaKeyPair::from_pkcs8(bytes).map(Self::Rs256)
            }
            (Algorithm::RS256, PrivateKeyDer::Pkcs1(_)) => {
                RsaKeyPair::from_der(bytes).map(Self::Rs256)
            }
            (Algorithm::EdDSA, PrivateKeyDer::Pkcs8(_)) => {
                Ed25519KeyPair::from_pkcs8(bytes).map(Self::Ed25519)
            }
            (Algorithm::ES256 | Algorithm::RS256 | Algorithm::EdDSA, _) => {
                return Err(KeyringError::Mismatch);
            }
            _ => return Err(KeyringError::Unsupported),
        };
        pair.map_err(|_| KeyringError::Mismatch)
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
            Self::Ed25519(_) => "EdDSA",
            Self::Hs256(_) => "HS256",
        }
    }

    /// The public part, without a name.
    fn jwk(&self) -> Result<Jwk, KeyringError> {
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        let mut jwk = Jwk {
            alg: self.alg(),
            purpose: "sig",
            key_ops: ["verify"],
            ..Jwk::default()
        };
        match self {
            Self::Es256(pair) => {
                // An uncompressed point: 4, then both coordinates.
                let point = pair.public_key().as_ref();
                let point = point.strip_prefix(&[4]).ok_or(KeyringError::Mismatch)?;
                let (x, y) = point.split_at_checked(32).ok_or(KeyringError::Mismatch)?;
                (jwk.kty, jwk.crv) = ("EC", Some("P-256"));
                (jwk.x, jwk.y) = (text(x), text(y));
            }
            Self::Rs256(pair) => {
                let public = pair.public_key();
                jwk.kty = "RSA";
                jwk.n = text(public.modulus().big_endian_without_leading_zero());
                jwk.e = text(public.exponent().big_endian_without_leading_zero());
            }
            Self::Ed25519(pair) => {
                (jwk.kty, jwk.crv) = ("OKP", Some("Ed25519"));
                jwk.x = text(pair.public_key().as_ref());
            }
            Self::Hs256(_) => return Err(KeyringError::Unsupported),
        }
        Ok(jwk)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyringError> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => pair
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyringError::Failed),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map(|()| signature)
                    .map_err(|_| KeyringError::Failed)
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Hs256(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

#[derive(Serialize)]
struct Header<'k> {
    alg: &'static str,
    typ: &'static str,
    kid: &'k str,
}

fn verifying(jwk: &Value) -> Result<Key, KeyringError> {
    let members = jwk.as_object().ok_or(KeyringError::Failed)?;
    Key::jwk(members).map_err(|_| KeyringError::Mismatch)
}

fn random<const N: usize>() -> Result<[u8; N], KeyringError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| KeyringError::Failed)?;
    Ok(bytes)
}

/// A public key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Clone, Default, Serialize)]
pub(crate) struct Jwk {
    kty: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    key_ops: [&'static str; 1],
    alg: &'static str,
    kid: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

impl Jwk {
    /// SHA-256 over the members that make the key, in the order of their names (RFC 7638 §3).
    fn thumbprint(&self) -> Box<str> {
        let members = [
            ("crv", self.crv),
            ("e", self.e.as_deref()),
            ("kty", Some(self.kty)),
            ("n", self.n.as_deref()),
            ("x", self.x.as_deref()),
            ("y", self.y.as_deref()),
        ];
        // Base64url and fixed words: nothing in them needs an escape.
        let members: Vec<String> = members
            .into_iter()
            .filter_map(|(name, value)| Some(format!("\"{name}\":\"{}\"", value?)))
            .collect();
        let text = format!("{{{}}}", members.join(","));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        URL_SAFE_NO_PAD.encode(digest).into()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use jsonwebtoken::jwk::{Jwk as TheirJwk, ThumbprintHash};

    use super::*;
    use crate::identity::testing::{TestKey, rsa_pem};

    fn keys() -> [(Algorithm, String); 3] {
        // A second installation is refused, which is as good.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        [
            (Algorithm::ES256, TestKey::es256().private_pem().to_owned()),
            (Algorithm::RS256, rsa_pem().0),
            (
                Algorithm::EdDSA,
                TestKey::ed25519().private_pem().to_owned(),
            ),
        ]
    }

    #[test]
    fn the_key_id_is_the_thumbprint_unless_it_is_given() {
        for (algorithm, pem) in keys() {
            let theirs = match algorithm {
                Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
                Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
                _ => EncodingKey::from_ed_pem(pem.as_bytes()),
            };
            let ours = SigningKey::pem(algorithm, &pem, None).unwrap();
            // The library reads Ed25519 keys of one length only.
            if let Ok(theirs) = TheirJwk::from_encoding_key(&theirs.unwrap(), algorithm) {
                let thumbprint = theirs.thumbprint(ThumbprintHash::SHA256).unwrap();
                assert_eq!(*ours.kid, *thumbprint);
            }
            let named = SigningKey::pem(algorithm, &pem, Some("k1")).unwrap();
            assert_eq!(&*named.kid, "k1");
        }
    }

    #[test]
    fn a_key_of_another_kind_than_the_algorithm_is_refused() {
        let [(_, ec), (_, rsa), (_, ed)] = keys();
        let es384 = TestKey::es384();
        for (algorithm, pem) in [
            (Algorithm::ES256, rsa.as_str()),
            (Algorithm::ES256, &ed),
            (Algorithm::ES256, es384.private_pem()),
            (Algorithm::RS256, &ec),
            (Algorithm::EdDSA, &ec),
            (Algorithm::EdDSA, &rsa),
            (Algorithm::ES256, "no key"),
        ] {
            let refused = SigningKey::pem(algorithm, pem, None).err();
            assert_eq!(refused, Some(KeyringError::Mismatch), "{algorithm:?}");
        }
        let refused = SigningKey::pem(Algorithm::HS256, &ec, None).err();
        assert_eq!(refused, Some(KeyringError::Unsupported));
    }

    #[test]
    fn a_key_that_was_made_is_read_again_and_signs() {
        for algorithm in [
            Algorithm::ES256,
            Algorithm::RS256,
            Algorithm::EdDSA,
            Algorithm::HS256,
        ] {
            let made = SigningKey::make(algorithm).unwrap();
            let key = SigningKey::stored(algorithm, made.private.expose(), &made.kid).unwrap();
            let token = key.sign("JWT", &serde_json::json!({"sub": "a"})).unwrap();
            let jws = crate::identity::jwt::Jws::read(&token).unwrap();
            assert_eq!(jws.header.kid.as_deref(), Some(&*made.kid));
            assert_eq!(jws.verify(key.verifying()), Ok(()), "{algorithm:?}");
            assert_eq!(key.public().is_none(), algorithm == Algorithm::HS256);
            if let Some(public) = key.public() {
                assert_eq!(public.thumbprint(), made.kid);
            }
        }
        let refused = SigningKey::make(Algorithm::PS256).err();
        assert_eq!(refused, Some(KeyringError::Unsupported));
    }

    #[test]
    fn a_stored_key_of_another_kind_is_refused() {
        let ec = SigningKey::make(Algorithm::ES256).unwrap();
        for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
            let refused = SigningKey::stored(algorithm, ec.private.expose(), "k").err();
            assert_eq!(refused, Some(KeyringError::Mismatch));
        }
        let short = SigningKey::stored(Algorithm::HS256, b"short", "k").err();
        assert_eq!(short, Some(KeyringError::Mismatch));
    }
}
