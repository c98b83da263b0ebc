//! Shared secrets and key files: read, and refused where they are weak, published, or open to others.
//! No problem shows a secret, nor the name that a secret's file was given as (it may be the secret itself).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::problem::Report;
use super::units::Wrong;
use crate::secret::Secret;

/// How a shared secret is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    Text,
    Base64,
    Base64Url,
}

/// The words of `secret_encoding`.
pub(super) const ENCODINGS: [(&str, Encoding); 3] = [
    ("text", Encoding::Text),
    ("base64", Encoding::Base64),
    ("base64url", Encoding::Base64Url),
];

/// RFC 7518 §3.2: a key as long as the hash's output.
const SHORTEST: usize = 32;

/// A published secret is known to everybody who can search; these stand in guides, tools and examples.
const PUBLISHED: [&str; 8] = [
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "reallyreallyreallyreallyverysafe",
    "3EK6FD+o0+c7tzBNVfjpMkNDi2yARAAKzQlk8O2IKoxQu4nF7EdAh8s3TwpHwrdWT6R",
    "mysupersecretkeymysupersecretkey",
    "thisisasecretkeythisisasecretkey",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "0123456789abcdef0123456789abcdef",
];

/// Words of placeholders; no random secret holds one.
const PLACEHOLDERS: [&str; 12] = [
    "changeme",
    "change-me",
    "change_me",
    "changethis",
    "change-this",
    "super-secret",
    "supersecret",
    "your-secret",
    "your_secret",
    "-bit-secret",
    "placeholder",
    "password",
];

/// A shared secret, decoded.
pub(super) fn shared(text: &str, encoding: Encoding) -> Result<Secret<Arc<[u8]>>, Wrong> {
    let bytes = match encoding {
        Encoding::Text => text.as_bytes().to_vec(),
        Encoding::Base64 => decode(text, &STANDARD)?,
        Encoding::Base64Url => decode(text.trim_end_matches('='), &URL_SAFE_NO_PAD)?,
    };
    if bytes.len() < SHORTEST {
        return Err(Wrong::new(
            format!("is a secret of {} bytes: too short", bytes.len()),
            NEW_SECRET,
        ));
    }
    if is_published(text) || std::str::from_utf8(&bytes).is_ok_and(is_published) {
        return Err(Wrong::new(
            "is a published or placeholder secret that others know",
            NEW_SECRET,
        ));
    }
    if is_monotonous(&bytes) {
        return Err(Wrong::new("is a secret that is easy to guess", NEW_SECRET));
    }
    Ok(Secret::new(bytes.into()))
}

const NEW_SECRET: &str = "use 32 random bytes or more: openssl rand -base64 48";

fn decode(text: &str, engine: &impl Engine) -> Result<Vec<u8>, Wrong> {
    engine
        .decode(text)
        .map_err(|_| Wrong::new("is not in its `secret_encoding`", "check `secret_encoding`"))
}

pub(super) fn is_published(text: &str) -> bool {
    let lower = text.trim().to_lowercase();
    lower.starts_with("secret")
        || PUBLISHED.iter().any(|known| known.to_lowercase() == lower)
        || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

/// Few different bytes, a short piece repeated, or a run such as `abcdef`.
fn is_monotonous(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes
        .iter()
        .for_each(|byte| seen[usize::from(*byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    let repeats = (1..=bytes.len() / 2)
        .any(|period| period <= 16 && bytes[period..] == bytes[..bytes.len() - period]);
    let runs = bytes
        .windows(2)
        .filter(|pair| pair[1].wrapping_sub(pair[0]) <= 1 || pair[0].wrapping_sub(pair[1]) == 1)
        .count();
    different < 8 || repeats || runs * 4 > bytes.len() * 3
}

/// The text of a file that holds a secret; one line end at its end is no part of it.
pub(super) fn secret_file(report: &Report, name: &str) -> Result<String, Wrong> {
    let path = report.path(name);
    closed_to_others(&path)?;
    let mut text = read(&path)?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(text)
}

/// The text of a file that holds nothing secret.
pub(super) fn public_file(report: &Report, name: &str) -> Result<String, Wrong> {
    read(&report.path(name))
}

fn read(path: &Path) -> Result<String, Wrong> {
    const LARGEST: u64 = 1 << 20;
    let unreadable = |error: std::io::Error| {
        Wrong::new(
            format!("names a file that cannot be read: {error}"),
            "give a file that the gateway's user can read; relative names begin at the config's folder",
        )
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LARGEST {
        return Err(Wrong::new("names a file of more than 1 MiB", ""));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn closed_to_others(path: &Path) -> Result<(), Wrong> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(());
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Wrong::new(
        format!("names a secret file that others can open (mode {mode:04o})"),
        "chmod 600 it",
    ))
}

/// A public key or certificate as PEM text. Which algorithms it serves is seen where keys are built.
pub(super) fn public_key(report: &Report, name: &str) -> Result<Arc<str>, Wrong> {
    let text = public_file(report, name)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(Wrong::new(
            "names a file with a private key",
            "give the public key alone: openssl pkey -pubout",
        ));
    }
    let known = ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"];
    let has_pem = known.iter().any(|label| {
        text.contains(&format!("-----BEGIN {label}-----"))
            && text.contains(&format!("-----END {label}-----"))
    });
    if has_pem {
        return Ok(text.into());
    }
    Err(Wrong::new(
        "names a file with no PEM public key and no certificate",
        "it must hold -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----",
    ))
}

/// A JWKS document as JSON text, with public keys only.
pub(super) fn jwks(report: &Report, name: &str) -> Result<Arc<str>, Wrong> {
    let text = public_file(report, name)?;
    let no_jwks = || {
        Wrong::new(
            "names a file that is no JWKS",
            "it must be JSON: {\"keys\": [ … ]} with one key at least",
        )
    };
    let document: serde_json::Value = serde_json::from_str(&text).map_err(|_| no_jwks())?;
    let keys = document
        .get("keys")
        .and_then(|keys| keys.as_array())
        .filter(|keys| !keys.is_empty() && keys.iter().all(|key| key.get("kty").is_some()))
        .ok_or_else(no_jwks)?;
    let private = |key: &serde_json::Value| key.get("d").is_some() || key.get("k").is_some();
    if keys.iter().any(private) {
        return Err(Wrong::new(
            "names a JWKS with a private or shared key",
            "leave public keys only; a shared secret goes into `secret` or `secret_file`",
        ));
    }
    Ok(text.into())
}

/// A file of PEM certificates, and its text.
pub(super) fn certificates(report: &Report, name: &str) -> Result<(PathBuf, Arc<str>), Wrong> {
    let text = public_file(report, name)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok((report.path(name), text.into())),
        _ => Err(Wrong::new(
            "names a file with no PEM certificate",
            "it must hold -----BEGIN CERTIFICATE-----",
        )),
    }
}

/// A file with a PEM private key that nobody else can open.
pub(super) fn private_key(
    report: &Report,
    name: &str,
) -> Result<(PathBuf, PrivateKeyDer<'static>), Wrong> {
    let path = report.path(name);
    let text = secret_file(report, name)?;
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(key) => Ok((path, key)),
        Err(_) => Err(Wrong::new(
            "names a file with no PEM private key",
            "it must hold -----BEGIN PRIVATE KEY-----, with no passphrase",
        )),
    }
}

/// The text of a file with a PEM private key that nobody else can open.
pub(super) fn signing_key(report: &Report, name: &str) -> Result<Secret<Arc<str>>, Wrong> {
    private_key(report, name)?;
    secret_file(report, name).map(|text| Secret::new(text.into()))
}

/// Whether `key` is the one of the first certificate in `chain`, as far as can be told.
pub(super) fn is_pair(chain: &str, key: PrivateKeyDer<'static>) -> bool {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .filter_map(Result::ok)
        .collect();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of its own for a test's files, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("portcullis-secrets-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str, mode: u32) {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }

        fn report(&self) -> Report {
            Report::new(&self.0.join("portcullis.toml"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_secret_file_is_read_without_its_line_end_and_only_if_closed_to_others() {
        let folder = Folder::new("closed");
        let report = folder.report();
        for (mode, good) in [(0o600, true), (0o400, true), (0o644, false), (0o640, false)] {
            folder.write("secret", "abc\r\n", mode);
            let read = secret_file(&report, "secret");
            assert_eq!(read.is_ok(), good, "{mode:o}");
            if let Ok(text) = read {
                assert_eq!(text, "abc");
            }
        }
    }

    #[test]
    fn public_key_files_hold_a_public_key_or_certificate() {
        let folder = Folder::new("public");
        let report = folder.report();
        let key = rcgen::KeyPair::generate().unwrap();
        for (text, good) in [
            (key.public_key_pem(), true),
            (key.serialize_pem(), false),
            ("nothing".to_owned(), false),
        ] {
            folder.write("key.pem", &text, 0o644);
            assert_eq!(public_key(&report, "key.pem").is_ok(), good, "{text}");
        }
        assert!(public_key(&report, "none.pem").is_err());
    }

    #[test]
    fn jwks_files_hold_public_keys_only() {
        let folder = Folder::new("jwks");
        let report = folder.report();
        for (text, good) in [
            (
                r#"{"keys":[{"kty":"EC","crv":"P-256","x":"a","y":"b"}]}"#,
                true,
            ),
            (r#"{"keys":[{"kty":"EC","d":"a"}]}"#, false),
            (r#"{"keys":[{"kty":"oct","k":"a"}]}"#, false),
            (r#"{"keys":[]}"#, false),
            (r#"[]"#, false),
            ("nothing", false),
        ] {
            folder.write("jwks.json", text, 0o644);
            assert_eq!(jwks(&report, "jwks.json").is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_only() {
        let folder = Folder::new("pair");
        let report = folder.report();
        let own = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        folder.write("chain.pem", &own.cert.pem(), 0o644);
        let (_, chain) = certificates(&report, "chain.pem").unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        for (key, good) in [(&own.signing_key, true), (&other, false)] {
            folder.write("key.pem", &key.serialize_pem(), 0o600);
            let (_, key) = private_key(&report, "key.pem").unwrap();
            assert_eq!(is_pair(&chain, key), good);
        }
        folder.write("key.pem", &other.serialize_pem(), 0o644);
        assert!(private_key(&report, "key.pem").is_err());
        assert!(private_key(&report, "chain.pem").is_err());
    }

    #[test]
    fn secrets_are_long_unpublished_and_varied() {
        let good = "kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE";
        for (text, encoding, accepted) in [
            (good, Encoding::Text, true),
            (&good[1..], Encoding::Text, false),
            ("9f86d081884c7d659a2feaa0c55ad015", Encoding::Text, true),
            (good, Encoding::Base64, false),
            (
                "a1E3ZlQydlg5bUxyNFpzVzhuWWIzSGNKNnBEZzFSYUU=",
                Encoding::Base64,
                true,
            ),
            (
                "a1E3ZlQydlg5bUxyNFpzVzhuWWIzSGNKNnBEZzFSYUU",
                Encoding::Base64Url,
                true,
            ),
            (
                "a1E3ZlQydlg5bUxyNFpzVzhuWWIzSGNKNnBEZzFSYUU=",
                Encoding::Base64Url,
                true,
            ),
            (
                "!1E3ZlQydlg5bUxyNFpzVzhuWWIzSGNKNnBEZzFSYUU=",
                Encoding::Base64,
                false,
            ),
            (
                "your-super-secret-jwt-token-with-at-least-32-characters-long",
                Encoding::Text,
                false,
            ),
            (
                "c3VwZXItc2VjcmV0LWp3dC10b2tlbi13aXRoLWF0LWxlYXN0LTMyLWNoYXJhY3RlcnMtbG9uZw==",
                Encoding::Base64,
                false,
            ),
            (
                "a-string-secret-at-least-256-bits-long",
                Encoding::Text,
                false,
            ),
            (
                "changeme-changeme-1234567890-abcdefgh",
                Encoding::Text,
                false,
            ),
            (
                "secret-kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE",
                Encoding::Text,
                false,
            ),
            (
                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ",
                Encoding::Text,
                false,
            ),
            (
                "                                        ",
                Encoding::Text,
                false,
            ),
        ] {
            assert_eq!(shared(text, encoding).is_ok(), accepted, "{text}");
        }
    }
}
