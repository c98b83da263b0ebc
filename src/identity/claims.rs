//! Claims to identity: the fields that the gateway itself reads, the roles, and the identity headers,
//! rendered once so that sending them on is cloning. No claim can break a header out of its line.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::clock::UnixSeconds;
use crate::config::ClaimPath;
use crate::http1::lines::Lines;
use crate::identity::Identity;
use crate::identity::assertion::Assertions;
use crate::identity::issuer::Issuer;
use crate::identity::json::parse_object;
use crate::identity::jwt::Jws;
use crate::identity::sessions::LastUse;
use crate::identity::validity::subject;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// Claims that were verified: their token, and when they end.
#[derive(Debug)]
pub struct Verified {
    /// The claims.
    pub claims: Claims,
    /// `exp` plus the leeway.
    pub ends_at: UnixSeconds,
    /// The token's text; empty where there was none.
    pub token: Secret<Arc<str>>,
}

/// All the claims of an identity. What every request asks for has a field of its own, and a map of claims takes some
/// 4 KiB, for each token that is known and each stream: it is read for the first rule, event or API that asks, and kept
/// from then on.
#[derive(Clone, Debug)]
pub struct Claims {
    source: Source,
    read: OnceLock<Map<String, Value>>,
}

/// Where claims are read again.
#[derive(Clone, Debug)]
enum Source {
    /// A verified token.
    Token(Secret<Arc<str>>),
    /// JSON of our own.
    Text(Box<str>),
}

impl Claims {
    /// What this token says, which was read and verified.
    pub fn of_token(token: Secret<Arc<str>>, claims: Map<String, Value>) -> Self {
        Self {
            source: Source::Token(token),
            read: claims.into(),
        }
    }

    /// What no token says.
    ///
    /// # Errors
    /// Claims that could not be read again, such as those nested too deep: a rule would find none of them.
    pub fn made(claims: Map<String, Value>) -> Result<Self, Refusal> {
        // `Display` of a value is its JSON.
        let text = Value::Object(claims).to_string();
        let read = parse_object(text.as_bytes()).map_err(|_| Refusal::TokenClaimsInvalid)?;
        Ok(Self {
            source: Source::Text(text.into()),
            read: read.into(),
        })
    }

    /// All of them.
    pub fn all(&self) -> &Map<String, Value> {
        self.read.get_or_init(|| self.read_again())
    }

    /// Both sources were read before, in the same way.
    fn read_again(&self) -> Map<String, Value> {
        let claims = match &self.source {
            Source::Token(token) => Jws::read(token.expose()).and_then(|jws| jws.claims()).ok(),
            Source::Text(text) => parse_object(text.as_bytes()).ok(),
        };
        claims.unwrap_or_default()
    }

    /// The same, no longer kept as a map.
    pub(crate) fn put_by(self) -> Self {
        Self {
            read: OnceLock::new(),
            ..self
        }
    }
}

impl Issuer {
    /// Makes the identity of verified claims. Refuses claims that no header can carry safely.
    pub fn identity(&self, verified: Verified) -> Result<Identity, Refusal> {
        let claims = verified.claims.all();
        let string = |name: &str| claims.get(name).and_then(Value::as_str).map(Box::from);
        Ok(Identity {
            issuer: self.name.clone(),
            iss: self.iss.clone(),
            issuer_index: self.index,
            user_id: subject(claims)?.into(),
            email: string("email"),
            session_id: string("session_id"),
            roles: read_roles(&self.roles, claims),
            anonymous: claims.get("is_anonymous") == Some(&Value::Bool(true)),
            issued_at: issued_at(claims),
            ends_at: verified.ends_at,
            headers: self.render_headers(claims)?,
            token: verified.token,
            proof: None,
            assertions: Assertions::default(),
            standing: None,
            last_use: LastUse::default(),
            remembered: Default::default(),
            claims: verified.claims.put_by(),
        })
    }

    fn render_headers(&self, claims: &Map<String, Value>) -> Result<Lines, Refusal> {
        let render = |(name, path): &(HeaderName, ClaimPath)| {
            let comma = match self.roles.contains(path) {
                true => Comma::Encoded,
                false => Comma::Kept,
            };
            let value = render(path, claims, comma).transpose()?;
            Some(value.map(|value| (name.clone(), value)))
        };
        self.headers.iter().filter_map(render).collect()
    }
}

impl ClaimPath {
    /// The claim at this path; `None` where it is missing or null.
    pub fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, rest) = self.0.split_first()?;
        let start = claims.get(&**first)?;
        rest.iter()
            .try_fold(start, |value, member| value.as_object()?.get(&**member))
            .filter(|value| !value.is_null())
    }
}

/// `iat`, which may have a fraction (RFC 7519 §2); `as` saturates.
fn issued_at(claims: &Map<String, Value>) -> Option<UnixSeconds> {
    Some(claims.get("iat")?.as_f64()? as UnixSeconds)
}

/// What becomes of a comma: upstreams split role headers at it (CVE-2021-32777).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comma {
    Kept,
    Encoded,
}

/// Every role that the claims at these paths name: strings, and strings in lists. Other types name none.
fn read_roles(paths: &[ClaimPath], claims: &Map<String, Value>) -> Vec<Box<str>> {
    let mut roles: Vec<Box<str>> = Vec::new();
    let mut add = |value: &Value| {
        if let Some(role) = value.as_str()
            && !role.is_empty()
            && !roles.iter().any(|known| **known == *role)
        {
            roles.push(role.into());
        }
    };
    for path in paths {
        match path.find(claims) {
            Some(Value::Array(values)) => values.iter().for_each(&mut add),
            Some(value) => add(value),
            None => {}
        }
    }
    roles
}

/// The header value of the claim at `path`; `None` where there is nothing that one value could say.
fn render(
    path: &ClaimPath,
    claims: &Map<String, Value>,
    comma: Comma,
) -> Result<Option<HeaderValue>, Refusal> {
    let text = match path.find(claims) {
        Some(Value::String(text)) => encode(text, comma)?,
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
        // Who is not said to be anonymous is not; upstreams want the header always.
        None if *path.0 == [Box::from("is_anonymous")] => "false".to_owned(),
        Some(_) | None => return Ok(None),
    };
    HeaderValue::try_from(text)
        .map(Some)
        .map_err(|_| Refusal::TokenClaimsInvalid)
}

/// Percent-encodes (UTF-8, upper-case hex) all but printable ASCII, `%` itself, and spaces at the ends,
/// which header readers trim. Bytes that end a line or a string are refused: no honest claim holds them.
fn encode(text: &str, comma: Comma) -> Result<String, Refusal> {
    if text.contains(['\r', '\n', '\0', '\x7f']) {
        return Err(Refusal::TokenClaimsInvalid);
    }
    let inner = text.len() - text.trim_start_matches(' ').len()..text.trim_end_matches(' ').len();
    let mut encoded = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let kept = match byte {
            b'%' => false,
            b',' => comma == Comma::Kept,
            b' ' => inner.contains(&at),
            _ => byte.is_ascii_graphic(),
        };
        if kept {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::mint::mint_hs256;
    use serde_json::json;

    fn path(text: &str) -> ClaimPath {
        ClaimPath(text.split('.').map(Box::from).collect())
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn strings_are_encoded_so_that_nothing_breaks_out() {
        let rows = [
            ("plain", "plain"),
            ("a b", "a b"),
            (" a ", "%20a%20"),
            ("   ", "%20%20%20"),
            ("100%", "100%25"),
            ("a,b", "a,b"),
            ("tab\there", "tab%09here"),
            ("Ċ", "%C4%8A"),
            ("张三", "%E5%BC%A0%E4%B8%89"),
            ("", ""),
        ];
        for (text, value) in rows {
            assert_eq!(encode(text, Comma::Kept).as_deref(), Ok(value), "{text:?}");
        }
        assert_eq!(encode("a,b", Comma::Encoded).as_deref(), Ok("a%2Cb"));
    }

    #[test]
    fn line_ends_and_nul_refuse_the_token() {
        for text in ["a\r\nx: y", "a\n", "\r", "\0", "a\x7f"] {
            assert_eq!(
                encode(text, Comma::Kept),
                Err(Refusal::TokenClaimsInvalid),
                "{text:?}"
            );
        }
    }

    #[test]
    fn each_type_of_claim_is_rendered_or_omitted() {
        let claims = object(json!({
            "s": "x", "b": true, "n": 12, "f": 1.5, "null": null, "list": ["a"], "o": {"in": "deep"},
        }));
        let rows = [
            ("s", Some("x")),
            ("b", Some("true")),
            ("n", Some("12")),
            ("f", Some("1.5")),
            ("null", None),
            ("list", None),
            ("o", None),
            ("o.in", Some("deep")),
            ("o.in.deeper", None),
            ("missing", None),
            ("is_anonymous", Some("false")),
        ];
        for (name, value) in rows {
            let rendered = render(&path(name), &claims, Comma::Kept).unwrap();
            assert_eq!(
                rendered.as_ref().map(|v| v.to_str().unwrap()),
                value,
                "{name}"
            );
        }
    }

    #[test]
    fn claims_are_kept_as_they_were() {
        let claims = object(json!({
            "sub": "u", "iat": 1.5, "small": 0.1, "third": 0.333_333_333_333_333_3, "large": u64::MAX, "low": i64::MIN,
            "text": "\u{0}\"\u{1F511}", "list": [null, true, {"in": {}}], "": [],
        }));
        let token = mint_hs256(&[7; 32], &claims).unwrap();
        let of_token = Claims::of_token(Secret::new(token.into()), claims.clone());
        for kept in [of_token, Claims::made(claims.clone()).unwrap()] {
            assert_eq!(*kept.all(), claims);
            assert_eq!(*kept.put_by().all(), claims);
        }
        assert_eq!(issued_at(&claims), Some(1));
        let rows = [json!({}), json!({"iat": null}), json!({"iat": "1"})];
        assert!(rows.map(|row| issued_at(&object(row))) == [None; 3]);
    }

    #[test]
    fn claims_that_could_not_be_read_again_are_no_claims() {
        let nested = |depth| (1..depth).fold(json!({}), |inner, _| json!({"in": inner}));
        assert!(Claims::made(object(nested(127))).is_ok());
        let deep = Claims::made(object(nested(128)));
        assert_eq!(deep.err(), Some(Refusal::TokenClaimsInvalid));
    }

    #[test]
    fn roles_come_from_strings_and_lists_of_strings() {
        let claims = object(json!({
            "role": "user",
            "app_metadata": {"roles": ["admin", 7, {"x": 1}, "user", ""]},
            "odd": {"not": "a role"},
        }));
        let paths = [
            path("role"),
            path("app_metadata.roles"),
            path("odd"),
            path("none"),
        ];
        assert_eq!(
            read_roles(&paths, &claims),
            ["user".into(), "admin".into()] as [Box<str>; 2]
        );
    }

    proptest::proptest! {
        #[test]
        fn every_number_is_kept_as_it_was(number in proptest::num::f64::NORMAL) {
            let claims = object(json!({"n": number}));
            let kept = Claims::made(claims.clone()).unwrap().put_by();
            proptest::prop_assert_eq!(kept.all(), &claims);
        }

        #[test]
        fn every_encoded_text_is_a_header_value_that_decodes_to_itself(text in "[^\\r\\n\\x00\\x7f]{0,40}") {
            let encoded = encode(&text, Comma::Encoded).unwrap();
            proptest::prop_assert!(HeaderValue::from_str(&encoded).is_ok());
            proptest::prop_assert_eq!(encoded.trim(), &encoded);
            proptest::prop_assert!(!encoded.contains(','));
        }
    }
}
