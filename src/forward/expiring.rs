//! The word of warning before a stream ends because its token does: an event or a message, both with the same JSON. Its
//! client then refreshes as it always does, or renews by `POST <mount>/streams/renew`, and the stream goes on.

use serde::Serialize;

use crate::clock::UnixSeconds;
use crate::refusal::Language;

/// How a route warns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// How long before the end, in seconds; 0: not at all.
    pub notice: u32,
    /// The language of its text.
    pub language: Language,
}

/// The event's name, and the message's `type`.
pub const NAME: &str = "auth_expiring";

#[derive(Serialize)]
struct Warning {
    r#type: &'static str,
    expires_in: u64,
    expires_at: UnixSeconds,
    msg: &'static str,
}

impl Expiring {
    /// The warning of an end at `until`, `now`.
    pub fn text(self, until: UnixSeconds, now: UnixSeconds) -> String {
        let warning = Warning {
            r#type: NAME,
            expires_in: until.saturating_sub(now),
            expires_at: until,
            msg: match self.language {
                Language::En => "The login behind this stream is about to expire",
                Language::Zh => "登录即将过期，请刷新",
            },
        };
        // Numbers and fixed texts: there is no value that fails.
        serde_json::to_string(&warning).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_what_ends_and_when() {
        let expiring = Expiring {
            notice: 60,
            language: Language::En,
        };
        let expected = r#"{"type":"auth_expiring","expires_in":60,"expires_at":160,"msg":"The login behind this stream is about to expire"}"#;
        assert_eq!(expiring.text(160, 100), expected);
    }
}
