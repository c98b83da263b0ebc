//! Whether verified claims hold here and now: times, audience, subject. Every check is our own; a claim
//! that is there with the wrong type is a failure, never "absent" (CVE-2026-25537). Pure.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::clock::UnixSeconds;
use crate::refusal::Refusal;

/// What claims are held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// One of these must be in `aud`; an empty list accepts any, and none.
    pub audience: &'a [Box<str>],
    /// Seconds of clock skew allowed on `exp`, `nbf` and `iat` alike.
    pub leeway: u64,
    /// The time on the wall clock.
    pub now: UnixSeconds,
}

impl Expected<'_> {
    /// Judges the claims; says when they end: `exp` plus the leeway.
    pub fn judge(&self, claims: &Map<String, Value>) -> Result<UnixSeconds, Refusal> {
        let expires = instant(claims, "exp")?.ok_or(Refusal::TokenClaimsInvalid)?;
        let not_before = instant(claims, "nbf")?;
        let issued = instant(claims, "iat")?;
        let audience = read_audience(claims.get("aud"))?;
        subject(claims)?;
        let ends_at = floor(expires).saturating_add(self.leeway).min(LATEST);
        if self.now >= ends_at {
            return Err(Refusal::TokenExpired);
        }
        let soon = self.now.saturating_add(self.leeway);
        for begins in [not_before, issued].into_iter().flatten() {
            if ceiling(begins) > soon {
                return Err(Refusal::TokenNotYetValid);
            }
        }
        let meant_for_us = |aud: &&str| self.audience.iter().any(|ours| **ours == **aud);
        if !self.audience.is_empty() && !audience.iter().any(meant_for_us) {
            return Err(Refusal::AudienceMismatch);
        }
        Ok(ends_at)
    }
}

/// `sub`: a user needs one that is a string with something in it.
pub fn subject(claims: &Map<String, Value>) -> Result<&str, Refusal> {
    match claims.get("sub") {
        Some(Value::String(sub)) if !sub.is_empty() => Ok(sub),
        _ => Err(Refusal::TokenClaimsInvalid),
    }
}

/// When a token ends, for people.
pub struct Until(pub UnixSeconds);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = i64::try_from(self.0)
            .ok()
            .and_then(|end| Timestamp::from_second(end).ok());
        match end {
            Some(end) => write!(f, "valid until {end}")?,
            None => f.write_str("valid until the end of the calendar")?,
        }
        match self.0 > MILLISECONDS {
            true => f.write_str("; exp looks like milliseconds, it must be seconds"),
            false => Ok(()),
        }
    }
}

/// What no token's end in seconds is greater than (the year 5138), and any in milliseconds is (one in 1973).
pub const MILLISECONDS: UnixSeconds = 100_000_000_000;

/// No token lasts beyond the year 9999, so that whoever adds to its end cannot overflow.
pub const LATEST: UnixSeconds = 253_402_300_799;

/// A `NumericDate` (RFC 7519 section 2): any JSON number, fractions included.
fn instant(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(seconds) if seconds.is_finite() => Ok(Some(seconds)),
            _ => Err(Refusal::TokenClaimsInvalid),
        },
        Some(_) => Err(Refusal::TokenClaimsInvalid),
    }
}

/// Whole seconds, downwards: an end comes no later than it was written. `as` saturates at both ends.
fn floor(seconds: f64) -> UnixSeconds {
    (seconds.floor() as u64).min(LATEST)
}

/// Whole seconds, upwards: a beginning comes no earlier than it was written.
fn ceiling(seconds: f64) -> UnixSeconds {
    seconds.ceil() as u64
}

/// `aud`: a string or a list of strings; compared as a whole, never taken apart at commas.
fn read_audience(aud: Option<&Value>) -> Result<Vec<&str>, Refusal> {
    match aud {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(many)) => many
            .iter()
            .map(|one| one.as_str().ok_or(Refusal::TokenClaimsInvalid))
            .collect(),
        Some(_) => Err(Refusal::TokenClaimsInvalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: UnixSeconds = 1_800_000_000;

    fn judge(text: &str) -> Result<UnixSeconds, Refusal> {
        let audience = ["ours".into(), "also".into()];
        let expected = Expected {
            audience: &audience,
            leeway: 30,
            now: NOW,
        };
        expected.judge(&serde_json::from_str(text).unwrap())
    }

    fn with(name: &str, value: &str) -> Result<UnixSeconds, Refusal> {
        let mut claims = json!({"exp": NOW + 60, "aud": "ours", "sub": "u"});
        claims[name] = serde_json::from_str(value).unwrap();
        judge(&claims.to_string())
    }

    #[test]
    fn each_claim_is_judged_by_type_and_value() {
        use Refusal::{
            AudienceMismatch as Aud, TokenClaimsInvalid as Bad, TokenExpired as Gone,
            TokenNotYetValid as Early,
        };
        let rows: &[(&str, &str, Result<UnixSeconds, Refusal>)] = &[
            ("exp", "1800000060", Ok(NOW + 90)),
            ("exp", "1800000060.9", Ok(NOW + 90)),
            ("exp", "1799999971", Ok(NOW + 1)),
            ("exp", "1799999970", Err(Gone)),
            ("exp", "1799999970.99", Err(Gone)),
            ("exp", "0", Err(Gone)),
            ("exp", "-1", Err(Gone)),
            ("exp", "-1e308", Err(Gone)),
            ("exp", "null", Err(Bad)),
            ("exp", "\"1800000060\"", Err(Bad)),
            ("exp", "\"2999-01-01T00:00:00Z\"", Err(Bad)),
            ("exp", "true", Err(Bad)),
            ("exp", "[1800000060]", Err(Bad)),
            ("exp", "{}", Err(Bad)),
            ("exp", "9223372036854775808", Ok(LATEST)),
            ("exp", "18446744073709551615", Ok(LATEST)),
            ("exp", "18446744073709551616", Ok(LATEST)),
            ("exp", "999999999999999999999999999999", Ok(LATEST)),
            ("exp", "1e308", Ok(LATEST)),
            ("exp", "1800000060000", Ok(LATEST)),
            ("nbf", "1800000030", Ok(NOW + 90)),
            ("nbf", "1800000030.1", Err(Early)),
            ("nbf", "1800000031", Err(Early)),
            ("nbf", "1e308", Err(Early)),
            ("nbf", "-5", Ok(NOW + 90)),
            ("nbf", "null", Err(Bad)),
            ("nbf", "\"0\"", Err(Bad)),
            ("nbf", "false", Err(Bad)),
            ("iat", "1800000030", Ok(NOW + 90)),
            ("iat", "1800000031", Err(Early)),
            ("iat", "\"1800000000\"", Err(Bad)),
            ("iat", "null", Err(Bad)),
            ("iat", "[]", Err(Bad)),
            ("aud", "\"also\"", Ok(NOW + 90)),
            ("aud", "[\"x\",\"ours\"]", Ok(NOW + 90)),
            ("aud", "[]", Err(Aud)),
            ("aud", "[\"x\"]", Err(Aud)),
            ("aud", "\"x,ours\"", Err(Aud)),
            ("aud", "\"our\"", Err(Aud)),
            ("aud", "\"ours/\"", Err(Aud)),
            ("aud", "\"OURS\"", Err(Aud)),
            ("aud", "\"\"", Err(Aud)),
            ("aud", "null", Err(Bad)),
            ("aud", "1", Err(Bad)),
            ("aud", "{\"ours\":true}", Err(Bad)),
            ("aud", "[[\"ours\"]]", Err(Bad)),
            ("aud", "[\"ours\",1]", Err(Bad)),
            ("sub", "\"\"", Err(Bad)),
            ("sub", "null", Err(Bad)),
            ("sub", "7", Err(Bad)),
            ("sub", "[\"u\"]", Err(Bad)),
        ];
        for (name, value, outcome) in rows {
            assert_eq!(with(name, value), *outcome, "{name} = {value}");
        }
    }

    #[test]
    fn what_is_missing_is_refused_where_it_is_needed() {
        let exp = NOW + 60;
        assert_eq!(
            judge(r#"{"aud":"ours","sub":"u"}"#),
            Err(Refusal::TokenClaimsInvalid)
        );
        assert_eq!(
            judge(&json!({"exp": exp, "aud": "ours"}).to_string()),
            Err(Refusal::TokenClaimsInvalid)
        );
        assert_eq!(
            judge(&json!({"exp": exp, "sub": "u"}).to_string()),
            Err(Refusal::AudienceMismatch)
        );
    }

    #[test]
    fn an_end_is_told_as_a_date_with_a_word_where_it_was_hardly_meant() {
        for (end, told) in [
            (NOW, "valid until 2027-01-15T08:00:00Z"),
            (MILLISECONDS, "valid until 5138-11-16T09:46:40Z"),
            (
                MILLISECONDS + 1,
                "valid until 5138-11-16T09:46:41Z; exp looks like milliseconds, it must be seconds",
            ),
            (
                LATEST,
                "valid until the end of the calendar; exp looks like milliseconds, it must be seconds",
            ),
        ] {
            assert_eq!(Until(end).to_string(), told);
        }
    }

    #[test]
    fn an_empty_audience_list_accepts_any_but_no_wrong_type() {
        let expected = Expected {
            audience: &[],
            leeway: 0,
            now: NOW,
        };
        let judge = |claims: Value| expected.judge(claims.as_object().unwrap());
        assert_eq!(judge(json!({"exp": NOW + 1, "sub": "u"})), Ok(NOW + 1));
        assert_eq!(
            judge(json!({"exp": NOW + 1, "sub": "u", "aud": "any"})),
            Ok(NOW + 1)
        );
        assert_eq!(
            judge(json!({"exp": NOW + 1, "sub": "u", "aud": 1})),
            Err(Refusal::TokenClaimsInvalid)
        );
    }
}
