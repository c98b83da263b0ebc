//! Keys and tokens for this module's tests, made anew each time.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::http1::lines::Lines;
use crate::identity::Identity;
use crate::identity::assertion::Assertions;
use crate::identity::claims::Claims;
use crate::identity::key::Key;
use crate::identity::mint::MintKey;
use crate::identity::sessions::LastUse;
use crate::secret::Secret;

pub(crate) use store::{TestStore, session, user};

mod store;

/// A key pair.
pub(crate) struct TestKey {
    algorithm: Algorithm,
    pair: rcgen::KeyPair,
    private: String,
}

impl TestKey {
    pub(crate) fn es256() -> Self {
        Self::of(Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn es384() -> Self {
        Self::of(Algorithm::ES384, &rcgen::PKCS_ECDSA_P384_SHA384)
    }

    pub(crate) fn ed25519() -> Self {
        Self::of(Algorithm::EdDSA, &rcgen::PKCS_ED25519)
    }

    fn of(algorithm: Algorithm, kind: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let private = pair.serialize_pem();
        Self {
            algorithm,
            pair,
            private,
        }
    }

    pub(crate) fn private_pem(&self) -> &str {
        &self.private
    }

    pub(crate) fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    pub(crate) fn key(&self) -> Key {
        Key::pem(&self.public_pem()).unwrap()
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let raw = self.pair.public_key_raw();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        if self.algorithm == Algorithm::EdDSA {
            return json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(raw)});
        }
        let (x, y) = raw[1..].split_at(raw.len() / 2);
        let crv = if x.len() == 32 { "P-256" } else { "P-384" };
        json!({"kty": "EC", "crv": crv, "kid": kid, "x": encode(x), "y": encode(y)})
    }

    pub(crate) fn mint(&self, kid: Option<&str>, claims: &Value) -> String {
        let key = MintKey::pem(self.algorithm, &self.private).unwrap();
        match kid {
            Some(kid) => key.with_kid(kid).mint(claims).unwrap(),
            None => key.mint(claims).unwrap(),
        }
    }
}

/// These claims, an object.
pub(crate) fn claims_of(claims: Value) -> Claims {
    Claims::made(claims.as_object().unwrap().clone()).unwrap()
}

/// An identity of no claims.
pub(crate) fn identity(user: &str, ends_at: u64) -> Identity {
    Identity {
        issuer: "one".into(),
        iss: "https://one.example".into(),
        issuer_index: 0,
        user_id: user.into(),
        email: None,
        session_id: None,
        roles: Vec::new(),
        anonymous: false,
        issued_at: None,
        ends_at,
        claims: claims_of(json!({})),
        headers: Lines::default(),
        token: Secret::new("".into()),
        proof: None,
        assertions: Assertions::default(),
        standing: None,
        last_use: LastUse::default(),
        remembered: Default::default(),
    }
}

/// An RSA key of 2048 bits: private and public PEM.
pub(crate) fn rsa_pem() -> (String, String) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    (
        pem("PRIVATE KEY", private.as_ref()),
        pem("PUBLIC KEY", public.as_ref()),
    )
}

/// An RSA public key of 2048 bits.
pub(crate) fn rsa_jwk(kid: &str) -> Value {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let modulus = pair
        .public_key()
        .modulus()
        .big_endian_without_leading_zero();
    json!({"kty": "RSA", "kid": kid, "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"})
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}
