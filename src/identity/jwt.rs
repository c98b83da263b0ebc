//! One token: read strictly (RFC 7515, 7519, 8725), its signature verified with one key. Pure.
//! What the claims say is judged in `validity.rs`; nothing here looks at a key that the token brings along.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::identity::json::{parse_object, read_member};
use crate::identity::key::Key;
use crate::refusal::Refusal;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// The longest key id, in bytes.
pub const MAX_KID: usize = 128;

/// A token of which only the envelope was read; what it says is worth nothing yet.
pub struct Unverified<'t> {
    /// The signed envelope.
    pub jws: Jws<'t>,
    /// Whose it says it is.
    pub iss: Option<String>,
}

/// Reads a token: the form of the JWS, its header, and of the payload, which must be a JSON object, only `iss`:
/// the other claims of a token that nobody has signed are not worth the work.
pub fn read(token: &str) -> Result<Unverified<'_>, Refusal> {
    let jws = Jws::read(token)?;
    let iss = read_member(&jws.payload, "iss").map_err(|_| Refusal::TokenMalformed)?;
    Ok(Unverified { jws, iss })
}

/// A compact JWS (RFC 7515 section 7.1), decoded.
pub struct Jws<'t> {
    /// What the header says.
    pub header: Header,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    message: &'t str,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Takes a compact JWS apart. Length first, then the parts, then base64: cheap refusals come first.
    pub fn read(token: &'t str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TokenMalformed);
        }
        // A fourth part would have its dot in the middle one, where base64 refuses it.
        let ends = memchr::memrchr(b'.', token.as_bytes()).ok_or(Refusal::TokenMalformed)?;
        let (message, signature) = (&token[..ends], &token[ends + 1..]);
        let (header, payload) = message.split_once('.').ok_or(Refusal::TokenMalformed)?;
        let header_bytes = decode(header)?;
        let jws = Self {
            header: Header::read(&header_bytes)?,
            payload: decode(payload)?,
            message,
            signature: decode(signature)?,
        };
        // After the header: an unsecured JWS is told that its algorithm is refused.
        if jws.signature.is_empty() {
            return Err(Refusal::TokenMalformed);
        }
        Ok(jws)
    }

    /// The claims, as somebody wrote them: one JSON object with no member twice. For a token that is verified.
    pub fn claims(&self) -> Result<Map<String, Value>, Refusal> {
        parse_object(&self.payload).map_err(|_| Refusal::TokenMalformed)
    }

    /// Verifies the signature with `key`, which must permit the header's algorithm.
    pub fn verify(&self, key: &Key) -> Result<(), Refusal> {
        let algorithm = self.header.algorithm;
        if !key.permits(algorithm) {
            return Err(Refusal::AlgorithmRefused);
        }
        if !key.verify(algorithm, self.message.as_bytes(), &self.signature) {
            return Err(Refusal::TokenSignatureInvalid);
        }
        Ok(())
    }
}

/// Shows the header alone: the rest is a credential.
impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jws({:?})", self.header)
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unverified({:?})", self.jws)
    }
}

/// The header's members that count. `jku`, `jwk`, `x5u`, `x5c` and `x5t` are never looked at: a token
/// that brings its own key proves nothing (CVE-2018-0114).
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`; to be held against the issuer's list and the key.
    pub algorithm: Algorithm,
    /// `kid`: an opaque name, at most 128 printable ASCII bytes.
    pub kid: Option<Box<str>>,
}

impl Header {
    /// Reads the JOSE header. Extensions that change what the payload means are refused, not skipped.
    fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        let members = parse_object(bytes).map_err(|_| Refusal::TokenMalformed)?;
        if ["crit", "b64", "zip", "cty"]
            .iter()
            .any(|name| members.contains_key(*name))
        {
            return Err(Refusal::TokenMalformed);
        }
        let Some(Value::String(alg)) = members.get("alg") else {
            return Err(Refusal::TokenMalformed);
        };
        Ok(Self {
            algorithm: Algorithm::from_str(alg).map_err(|_| Refusal::AlgorithmRefused)?,
            kid: read_kid(members.get("kid"))?,
        })
        .and_then(|header| read_typ(members.get("typ")).map(|()| header))
    }
}

/// `typ` may be absent, `JWT` or `at+jwt` (RFC 9068); anything else is a token for another purpose
/// (`dpop+jwt`, `logout+jwt`), RFC 8725 section 3.11.
fn read_typ(typ: Option<&Value>) -> Result<(), Refusal> {
    const KNOWN: [&str; 4] = ["JWT", "at+jwt", "application/jwt", "application/at+jwt"];
    match typ {
        None => Ok(()),
        Some(Value::String(typ)) if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(typ)) => {
            Ok(())
        }
        Some(_) => Err(Refusal::TokenMalformed),
    }
}

/// `kid` as an opaque name: never a path, a query or a URL, and too tame to hurt a log.
fn read_kid(kid: Option<&Value>) -> Result<Option<Box<str>>, Refusal> {
    match kid {
        None => Ok(None),
        Some(Value::String(kid)) if is_kid(kid) => Ok(Some(kid.as_str().into())),
        Some(_) => Err(Refusal::TokenMalformed),
    }
}

/// Whether this text can be a key id here.
pub(crate) fn is_kid(kid: &str) -> bool {
    (1..=MAX_KID).contains(&kid.len()) && kid.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// Canonical base64url without padding: one token has one spelling, so that no other spelling slips past
/// a revocation or a cache.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Refusal::TokenMalformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::mint;
    use serde_json::json;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn with_header(header: &str) -> String {
        let body = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode("{}")
        );
        let signature = mint::sign_hs256(SECRET, body.as_bytes());
        format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn judge(token: &str) -> Result<(), Refusal> {
        let key = Key::secret(SECRET).unwrap();
        let jws = read(token)?.jws;
        jws.verify(&key)?;
        jws.claims().map(drop)
    }

    #[test]
    fn debug_shows_no_token() {
        let token = mint::mint_hs256(SECRET, &json!({"sub": "alice"})).unwrap();
        let shown = format!("{:?}", read(&token).unwrap());
        assert_eq!(
            shown,
            "Unverified(Jws(Header { algorithm: HS256, kid: None }))"
        );
    }

    #[test]
    fn a_sound_token_is_read_and_verified() {
        let token = mint::mint_hs256(SECRET, &json!({"sub": "a"})).unwrap();
        assert_eq!(judge(&token), Ok(()));
        assert_eq!(judge(&with_header(r#"{"alg":"HS256"}"#)), Ok(()));
    }

    #[test]
    fn every_hostile_header_is_refused() {
        use Refusal::{AlgorithmRefused, TokenMalformed};
        let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(129));
        let deep = format!(
            r#"{{"alg":"HS256","x":{}{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        let rows: &[(&str, Refusal)] = &[
            (r#"{"alg":"none"}"#, AlgorithmRefused),
            (r#"{"alg":"None"}"#, AlgorithmRefused),
            (r#"{"alg":"nOnE"}"#, AlgorithmRefused),
            (r#"{"alg":""}"#, AlgorithmRefused),
            (r#"{"alg":"HS256 "}"#, AlgorithmRefused),
            (r#"{"alg":"HS256\u0000"}"#, AlgorithmRefused),
            (r#"{"alg":"hs256"}"#, AlgorithmRefused),
            (r#"{"alg":"HS384"}"#, Refusal::TokenSignatureInvalid),
            (r#"{"alg":"RS256"}"#, AlgorithmRefused),
            (r#"{}"#, TokenMalformed),
            (r#"{"alg":null}"#, TokenMalformed),
            (r#"{"alg":256}"#, TokenMalformed),
            (r#"{"alg":["HS256"]}"#, TokenMalformed),
            (r#"{"alg":"HS256","alg":"HS256"}"#, TokenMalformed),
            (r#"{"alg":"none","alg":"HS256"}"#, TokenMalformed),
            (r#"{"alg":"HS256","crit":["x"]}"#, TokenMalformed),
            (r#"{"alg":"HS256","crit":[]}"#, TokenMalformed),
            (r#"{"alg":"HS256","crit":"exp"}"#, TokenMalformed),
            (
                r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
                TokenMalformed,
            ),
            (r#"{"alg":"HS256","b64":false}"#, TokenMalformed),
            (r#"{"alg":"HS256","zip":"DEF"}"#, TokenMalformed),
            (r#"{"alg":"HS256","cty":"JWT"}"#, TokenMalformed),
            (r#"{"alg":"HS256","typ":"dpop+jwt"}"#, TokenMalformed),
            (r#"{"alg":"HS256","typ":1}"#, TokenMalformed),
            (r#"{"alg":"HS256","kid":""}"#, TokenMalformed),
            (r#"{"alg":"HS256","kid":7}"#, TokenMalformed),
            (r#"{"alg":"HS256","kid":null}"#, TokenMalformed),
            (r#"{"alg":"HS256","kid":"a\r\nb"}"#, TokenMalformed),
            (r#"{"alg":"HS256","kid":"a\u0000"}"#, TokenMalformed),
            (r#"{"alg":"HS256","kid":"ключ"}"#, TokenMalformed),
            (&long, TokenMalformed),
            (&deep, TokenMalformed),
            ("\u{feff}{\"alg\":\"HS256\"}", TokenMalformed),
            (r#"{"alg":"HS256"}x"#, TokenMalformed),
        ];
        for (header, refusal) in rows {
            assert_eq!(judge(&with_header(header)), Err(*refusal), "{header}");
        }
    }

    #[test]
    fn a_key_in_the_header_changes_nothing() {
        for header in [
            r#"{"alg":"HS256","jku":"https://evil.example/k"}"#,
            r#"{"alg":"HS256","x5u":"https://evil.example/k","x5t":"x"}"#,
            r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"x5c":["x"]}"#,
        ] {
            assert_eq!(judge(&with_header(header)), Ok(()), "{header}");
            let other = Key::secret(b"another secret of thirty-two byt").unwrap();
            let token = with_header(header);
            let refused = read(&token).unwrap().jws.verify(&other);
            assert_eq!(refused, Err(Refusal::TokenSignatureInvalid));
        }
    }

    #[test]
    fn only_three_canonical_parts_are_a_token() {
        let good = mint::mint_hs256(SECRET, &json!({"sub": "a"})).unwrap();
        let parts: Vec<&str> = good.split('.').collect();
        let (h, p, s) = (parts[0], parts[1], parts[2]);
        // The last character of a 32-byte MAC holds two unused bits: each of the other three spellings
        // decodes to the same bytes in a lax reader.
        let spelled = |last: char| format!("{h}.{p}.{}{last}", &s[..s.len() - 1]);
        let twin = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = twin.find(&s[s.len() - 1..]).unwrap();
        let sloppy = twin.chars().nth(at | 1).unwrap();
        let rows = [
            String::new(),
            ".".into(),
            "..".into(),
            h.into(),
            format!("{h}.{p}"),
            format!("{h}.{p}."),
            format!(".{p}.{s}"),
            format!("{h}..{s}"),
            format!("{good}."),
            format!("{good}.{s}"),
            format!("{good}.{s}.{s}"),
            format!("{good}="),
            format!("{h}=.{p}.{s}"),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{h}.{p}.+{}", &s[1..]),
            format!("{h}.{p}.{}", &s[..s.len() - 2]),
            spelled(sloppy),
            format!(r#"{{"protected":"{h}","payload":"{p}","signature":"{s}"}}"#),
            format!("{h}.{}.{s}", "A".repeat(MAX_TOKEN)),
        ];
        for token in rows {
            assert_eq!(judge(&token), Err(Refusal::TokenMalformed), "{token}");
        }
        let long = format!("{h}.{p}.{s}AAAA");
        assert_eq!(judge(&long), Err(Refusal::TokenSignatureInvalid));
        let short = format!("{h}.{p}.{}", &s[..40]);
        assert_eq!(judge(&short), Err(Refusal::TokenSignatureInvalid));
    }

    #[test]
    fn a_payload_that_is_no_object_is_malformed() {
        for payload in ["[]", "\"a\"", "1", "", "{\"a\":1,\"a\":2}", "\u{feff}{}"] {
            let body = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
                URL_SAFE_NO_PAD.encode(payload)
            );
            let signature = mint::sign_hs256(SECRET, body.as_bytes());
            let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(judge(&token), Err(Refusal::TokenMalformed), "{payload}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(token in "\\PC{0,200}") {
            let _ = read(&token);
        }

        #[test]
        fn no_signed_bytes_make_the_reader_panic(header: Vec<u8>, payload: Vec<u8>) {
            let _ = read(&format!(
                "{}.{}.AAAA",
                URL_SAFE_NO_PAD.encode(header),
                URL_SAFE_NO_PAD.encode(payload)
            ));
        }
    }
}
