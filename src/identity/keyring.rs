//! The gateway's own keys: the one place that signs what others verify. Keys are parsed once; the first
//! signs, and the public part of each is in the JWKS document, so that what was signed before a change of
//! keys can still be verified.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

/// Keys that the gateway signs with. Never empty.
pub struct Keyring {
    signing: SigningKey,
    document: Bytes,
}

/// A private key, parsed once and bound to its algorithm.
pub struct SigningKey {
    kid: Box<str>,
    pair: Pair,
    jwk: Jwk,
}

/// The key itself, by kind.
enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
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
    /// The library failed.
    #[error("the signature could not be made")]
    Failed,
}

impl Keyring {
    /// A keyring that signs with `signing`. `older` keys are published only.
    pub fn new(signing: SigningKey, older: &[SigningKey]) -> Self {
        let keys: Vec<&Jwk> = std::iter::once(&signing)
            .chain(older)
            .map(|key| &key.jwk)
            .collect();
        // Texts in a struct: writing them cannot fail, and an empty set would verify nothing.
        let document = serde_json::to_vec(&Document { keys }).unwrap_or_default();
        Self {
            document: document.into(),
            signing,
        }
    }

    /// The public keys as a JWKS document (RFC 7517 §5).
    pub fn document(&self) -> Bytes {
        self.document.clone()
    }

    /// A compact JWS over `claims`. `typ` says what it is, so that nobody takes one kind of token for
    /// another (RFC 8725 §3.11).
    ///
    /// # Errors
    /// When the claims are no JSON, or the library fails.
    pub fn sign(&self, typ: &'static str, claims: &impl Serialize) -> Result<String, KeyringError> {
        let key = &self.signing;
        let header = Header {
            alg: key.pair.alg(),
            typ,
            kid: &key.kid,
        };
        let mut token = String::with_capacity(512);
        for part in [serde_json::to_vec(&header), serde_json::to_vec(claims)] {
            let part = part.map_err(|_| KeyringError::Failed)?;
            if !token.is_empty() {
                token.push('.');
            }
            URL_SAFE_NO_PAD.encode_string(part, &mut token);
        }
        let signature = key.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
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
        let pair = Pair::read(algorithm, &der)?;
        let mut jwk = pair.jwk()?;
        let kid: Box<str> = kid.map_or_else(|| jwk.thumbprint(), Box::from);
        jwk.kid.clone_from(&kid);
        Ok(Self { kid, pair, jwk })
    }
}

impl Pair {
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
        }
    }

    /// The public part, without a name.
    fn jwk(&self) -> Result<Jwk, KeyringError> {
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        let mut jwk = Jwk {
            alg: self.alg(),
            purpose: "sig",
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
        }
    }
}

#[derive(Serialize)]
struct Header<'k> {
    alg: &'static str,
    typ: &'static str,
    kid: &'k str,
}

#[derive(Serialize)]
struct Document<'k> {
    keys: Vec<&'k Jwk>,
}

/// A public key (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Default, Serialize)]
struct Jwk {
    kty: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
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
    use jsonwebtoken::jwk::{Jwk as TheirJwk, JwkSet, ThumbprintHash};
    use jsonwebtoken::{DecodingKey, EncodingKey, Validation, decode, decode_header};
    use serde_json::{Value, json};

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
    fn what_it_signs_is_verified_with_what_it_publishes() {
        for (algorithm, pem) in keys() {
            let keyring = Keyring::new(SigningKey::pem(algorithm, &pem, None).unwrap(), &[]);
            let claims = json!({"sub": "u1", "aud": "app", "exp": 4_000_000_000_u64});
            let token = keyring.sign("assertion+jwt", &claims).unwrap();
            let header = decode_header(&token).unwrap();
            assert_eq!(header.typ.as_deref(), Some("assertion+jwt"));
            let set: JwkSet = serde_json::from_slice(&keyring.document()).unwrap();
            let jwk = set.find(&header.kid.unwrap()).unwrap();
            let mut validation = Validation::new(algorithm);
            validation.set_audience(&["app"]);
            let key = DecodingKey::from_jwk(jwk).unwrap();
            let read = decode::<Value>(&token, &key, &validation).unwrap();
            assert_eq!(read.claims, claims, "{algorithm:?}");
        }
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
    fn older_keys_are_published_and_no_private_part_is() {
        let [(_, new), (_, rsa), (_, old)] = keys();
        let new = SigningKey::pem(Algorithm::ES256, &new, Some("new")).unwrap();
        let older = [
            SigningKey::pem(Algorithm::EdDSA, &old, Some("old")).unwrap(),
            SigningKey::pem(Algorithm::RS256, &rsa, Some("rsa")).unwrap(),
        ];
        let document: Value =
            serde_json::from_slice(&Keyring::new(new, &older).document()).unwrap();
        let keys = document["keys"].as_array().unwrap();
        let names: Vec<_> = keys
            .iter()
            .map(|key| key["kid"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["new", "old", "rsa"]);
        for key in keys {
            for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(key.get(private).is_none(), "{private}");
            }
            assert_eq!(key["use"], "sig");
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
}
