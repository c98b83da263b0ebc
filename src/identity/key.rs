//! One public key or secret, parsed once when it arrives and bound to the algorithms that it is for.
//! An asymmetric key has no way into HMAC: that is what keeps `alg` confusion out.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use crate::identity::jwt::{decode, is_kid};

/// A key that signatures are verified with.
#[derive(Clone)]
pub struct Key {
    kid: Option<Box<str>>,
    /// A JWK's `alg`: the only algorithm that the key is for.
    only: Option<Algorithm>,
    material: Material,
}

/// The key itself, by kind.
#[derive(Clone)]
enum Material {
    /// A shared secret, and the widest hash in bytes that it is good for (RFC 7518 section 3.2).
    Hmac {
        macs: Box<Macs>,
        widest: usize,
    },
    /// An RSA key and the length of its modulus in bytes, which is that of its signatures.
    Rsa {
        public: DecodingKey,
        size: usize,
    },
    EcP256(DecodingKey),
    EcP384(DecodingKey),
    Ed25519(DecodingKey),
}

/// A secret with its first blocks hashed already, which is what HMAC does with every key: a tenth of what
/// a bad token costs.
#[derive(Clone)]
struct Macs {
    hs256: hmac::Key,
    hs384: hmac::Key,
    hs512: hmac::Key,
}

impl Macs {
    fn of(secret: &[u8]) -> Self {
        Self {
            hs256: hmac::Key::new(hmac::HMAC_SHA256, secret),
            hs384: hmac::Key::new(hmac::HMAC_SHA384, secret),
            hs512: hmac::Key::new(hmac::HMAC_SHA512, secret),
        }
    }

    /// In constant time. The signature has the right size.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let key = match algorithm {
            Algorithm::HS256 => &self.hs256,
            Algorithm::HS384 => &self.hs384,
            Algorithm::HS512 => &self.hs512,
            _ => return false,
        };
        hmac::verify(key, message, signature).is_ok()
    }
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyError {
    #[error("the key is not in a form that is understood")]
    Malformed,
    #[error("the key is of a type that is not supported")]
    Unsupported,
    #[error("the key is too weak")]
    Weak,
    #[error("the key is not a point of its curve")]
    OffCurve,
    #[error("the key is not for verifying signatures")]
    Purpose,
    #[error("the key's algorithm does not fit its type")]
    AlgorithmMismatch,
    #[error("this is a private key; the public one is wanted")]
    Private,
}

impl Key {
    /// A shared secret of the configuration: 32 bytes or more.
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < 32 {
            return Err(KeyError::Weak);
        }
        Ok(Self::of(Material::Hmac {
            macs: Box::new(Macs::of(secret)),
            widest: 64,
        }))
    }

    /// A public key (SPKI, PKCS#1) or a certificate as PEM text.
    pub fn pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let bytes = text.as_bytes();
        if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
            let point = key.try_get_as_bytes().map_err(|_| KeyError::Malformed)?;
            return Material::ec(point).map(Self::of);
        }
        if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            let point = key.try_get_as_bytes().map_err(|_| KeyError::Malformed)?;
            return Material::ed25519(point).map(Self::of);
        }
        let key = DecodingKey::from_rsa_pem(bytes).map_err(|_| KeyError::Malformed)?;
        let der = key.try_get_as_bytes().map_err(|_| KeyError::Malformed)?;
        let components = (DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_public_key)(der);
        let (modulus, exponent) = components.map_err(|_| KeyError::Malformed)?;
        Material::rsa(&modulus, &exponent).map(Self::of)
    }

    /// A JSON Web Key (RFC 7517), held to its `use`, `key_ops` and `alg`.
    pub fn jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        check_purpose(jwk)?;
        let material = match text(jwk, "kty")? {
            "oct" => Material::oct(&bytes(jwk, "k")?),
            "RSA" => Material::rsa(&bytes(jwk, "n")?, &bytes(jwk, "e")?),
            "EC" => Material::ec_jwk(jwk),
            "OKP" if text(jwk, "crv")? == "Ed25519" => Material::ed25519(&bytes(jwk, "x")?),
            _ => Err(KeyError::Unsupported),
        }?;
        let key = Self {
            kid: jwk_kid(jwk)?.map(Into::into),
            only: jwk_algorithm(jwk)?,
            material,
        };
        match key.only {
            Some(algorithm) if !key.permits(algorithm) => Err(KeyError::AlgorithmMismatch),
            _ => Ok(key),
        }
    }

    /// The name that tokens call it by.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether it is a shared secret, which no key set may hand out.
    pub fn is_secret(&self) -> bool {
        matches!(self.material, Material::Hmac { .. })
    }

    /// Whether the key is for this algorithm. Everything that is not named is denied.
    pub fn permits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{
            ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        if self.only.is_some_and(|only| only != algorithm) {
            return false;
        }
        match (&self.material, algorithm) {
            (Material::Hmac { widest, .. }, HS256) => *widest >= 32,
            (Material::Hmac { widest, .. }, HS384) => *widest >= 48,
            (Material::Hmac { widest, .. }, HS512) => *widest >= 64,
            (Material::Rsa { .. }, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
            | (Material::EcP256(_), ES256)
            | (Material::EcP384(_), ES384)
            | (Material::Ed25519(_), EdDSA) => true,
            _ => false,
        }
    }

    /// Whether `signature` is this key's over `message`. Its exact size comes first (CVE-2022-21449);
    /// `false` for an algorithm that the key does not permit.
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.permits(algorithm) {
            return false;
        }
        let (key, size) = match &self.material {
            Material::Hmac { macs, .. } => {
                return signature.len() == mac_size(algorithm)
                    && macs.verify(algorithm, message, signature);
            }
            Material::Rsa { public, size } => (public, *size),
            Material::EcP256(key) | Material::Ed25519(key) => (key, 64),
            Material::EcP384(key) => (key, 96),
        };
        if signature.len() != size {
            return false;
        }
        if algorithm == Algorithm::EdDSA && is_small_order(&signature[..32]) {
            return false;
        }
        // The provider's own factory: no process-wide default that could be missing, and panic.
        (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
            .is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok())
    }

    fn of(material: Material) -> Self {
        Self {
            kid: None,
            only: None,
            material,
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.kid)
    }
}

impl Material {
    fn oct(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < 32 {
            return Err(KeyError::Weak);
        }
        Ok(Self::Hmac {
            macs: Box::new(Macs::of(secret)),
            widest: secret.len(),
        })
    }

    /// 2048 to 8192 bits, an odd exponent of 3 or more (RFC 7518 section 3.3; e = 1 signs nothing).
    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let modulus = without_leading_zeros(modulus);
        let exponent = without_leading_zeros(exponent);
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |b| b.leading_zeros() as usize);
        let odd = exponent.last().is_some_and(|last| last & 1 == 1);
        if !(2048..=8192).contains(&bits) || !odd || exponent == [1] {
            return Err(KeyError::Weak);
        }
        if is_factorable(modulus) {
            return Err(KeyError::Weak);
        }
        // The library goes no further than 33 bits.
        if exponent.len() > 4 {
            return Err(KeyError::Unsupported);
        }
        Ok(Self::Rsa {
            public: DecodingKey::from_rsa_raw_components(modulus, exponent),
            size: modulus.len(),
        })
    }

    fn ec_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        let size = match text(jwk, "crv")? {
            "P-256" => 32,
            "P-384" => 48,
            _ => return Err(KeyError::Unsupported),
        };
        let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
        if x.len() != size || y.len() != size {
            return Err(KeyError::Malformed);
        }
        Self::ec(&[&[4], x.as_slice(), y.as_slice()].concat())
    }

    /// An uncompressed point (SEC 1 section 2.3.3) on the curve that its length tells.
    fn ec(point: &[u8]) -> Result<Self, KeyError> {
        let key = DecodingKey::from_ec_der(point);
        match (point.len(), point.first()) {
            (65, Some(4)) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .map(|_| Self::EcP256(key))
                .map_err(|_| KeyError::OffCurve),
            (97, Some(4)) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .map(|_| Self::EcP384(key))
                .map_err(|_| KeyError::OffCurve),
            _ => Err(KeyError::Unsupported),
        }
    }

    fn ed25519(point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 32 {
            return Err(KeyError::Malformed);
        }
        if is_small_order(point) {
            return Err(KeyError::Weak);
        }
        Ok(Self::Ed25519(DecodingKey::from_ed_der(point)))
    }
}

/// Whether the library verifies a MAC that is known to be right and refuses one that is not: asked at
/// start, so that a build without working cryptography fails there and not at the first request.
pub(crate) fn self_check() -> bool {
    // RFC 4231 section 4.8: a key of 131 bytes, long enough for us.
    const MESSAGE: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
    const MAC: [u8; 32] = [
        0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f, 0x0d, 0x8a, 0x26, 0xaa, 0xcb, 0xf5, 0xb7,
        0x7f, 0x8e, 0x0b, 0xc6, 0x21, 0x37, 0x28, 0xc5, 0x14, 0x05, 0x46, 0x04, 0x0f, 0x0e, 0xe3,
        0x7f, 0x54,
    ];
    Key::secret(&[0xaa; 131]).is_ok_and(|key| {
        key.verify(Algorithm::HS256, MESSAGE, &MAC) && !key.verify(Algorithm::HS256, b"", &MAC)
    })
}

/// `use` must be `sig` and `key_ops` must hold `verify`, where they are there at all.
fn check_purpose(jwk: &Map<String, Value>) -> Result<(), KeyError> {
    match jwk.get("use") {
        None => {}
        Some(Value::String(purpose)) if purpose == "sig" => {}
        Some(_) => return Err(KeyError::Purpose),
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => Ok(()),
        Some(_) => Err(KeyError::Purpose),
    }
}

/// A JWK's `kid`, where it has a usable one.
pub(crate) fn jwk_kid(jwk: &Map<String, Value>) -> Result<Option<&str>, KeyError> {
    match jwk.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if is_kid(kid) => Ok(Some(kid)),
        Some(_) => Err(KeyError::Malformed),
    }
}

fn jwk_algorithm(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, KeyError> {
    match jwk.get("alg") {
        None => Ok(None),
        // RFC 9864 names the curve; the algorithm is the same.
        Some(Value::String(alg)) if alg == "Ed25519" => Ok(Some(Algorithm::EdDSA)),
        Some(Value::String(alg)) => alg.parse().map(Some).map_err(|_| KeyError::Unsupported),
        Some(_) => Err(KeyError::Malformed),
    }
}

fn text<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<&'j str, KeyError> {
    jwk.get(name)
        .and_then(Value::as_str)
        .ok_or(KeyError::Malformed)
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyError> {
    decode(text(jwk, name)?).map_err(|_| KeyError::Malformed)
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// Whether the modulus has the fingerprint of a weak generator (CVE-2017-15361, "ROCA"): modulo each of
/// these primes it is a power of 65537, which happens by chance once in 2^27 at most.
fn is_factorable(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let remainder = modulus
            .iter()
            .fold(0, |sum, byte| (sum * 256 + u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65537 % prime));
        powers.take(*prime as usize).any(|power| power == remainder)
    })
}

fn mac_size(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        _ => 64,
    }
}

/// Whether this encodes a point of small order, with which one signature fits many messages or keys
/// (RFC 8032 section 5.1.7 leaves it open; the strict reading refuses). The sign bit does not matter.
fn is_small_order(point: &[u8]) -> bool {
    SMALL_ORDER.iter().any(|small| {
        point[..31] == small[..31] && point.get(31).is_some_and(|last| last & 0x7f == small[31])
    })
}

/// y of the points of order 1, 2, 4 and 8, non-canonical spellings included; little-endian.
const SMALL_ORDER: [[u8; 32]; 7] = [
    little(0x00, 0x00, 0x00),
    little(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    little(0xec, 0xff, 0x7f),
    little(0xed, 0xff, 0x7f),
    little(0xee, 0xff, 0x7f),
];

/// 32 bytes: `first`, then `middle` thirty times, then `last`.
const fn little(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

#[cfg(test)]
mod tests;
