//! The audit line of what happened to a user or a session: log-ins, refreshes, log-outs, changes. It names them by
//! their ids only: what a stranger typed as a name may be a password.

use std::net::IpAddr;
use std::time::Duration;

use super::text::{clip, push_json, push_time, push_word};

/// What happened, to whom. What is `None` is left out.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "each field is the line's member of that name")]
pub struct Event<'a> {
    /// The stable word of what happened; the line's `audit`.
    pub name: &'static str,
    /// `ok`, or the word of why not.
    pub result: &'static str,
    pub api: Option<&'static str>,
    pub user_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
    /// Who did it, where it was not the user.
    pub by: Option<&'static str>,
    pub client: Option<IpAddr>,
    pub route: Option<&'a str>,
    /// Written by an upstream or a client: clipped.
    pub job_id: Option<&'a str>,
    /// The call that it came of.
    pub request_id: Option<&'a str>,
}

impl Event<'_> {
    /// Appends the line as a JSON object, without a line feed.
    pub(super) fn push_as_json(&self, out: &mut String, now: Duration) {
        out.push_str("{\"time\":\"");
        push_time(out, now);
        out.push('"');
        self.each_text(|name, text| {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            push_json(out, text);
        });
        out.push('}');
    }

    /// Appends the line as `name=value` pairs, without a line feed.
    pub(super) fn push_for_eyes(&self, out: &mut String, now: Duration) {
        push_time(out, now);
        self.each_text(|name, text| {
            out.push(' ');
            out.push_str(name);
            out.push('=');
            push_word(out, text);
        });
    }

    fn each_text(&self, mut push: impl FnMut(&'static str, &str)) {
        let client = self.client.map(|client| client.to_string());
        let texts = [
            ("audit", Some(self.name)),
            ("result", Some(self.result)),
            ("api", self.api),
            ("user_id", self.user_id),
            ("session_id", self.session_id),
            ("by", self.by),
            ("client", client.as_deref()),
            ("route", self.route),
            ("job_id", self.job_id),
            ("request_id", self.request_id),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                push(name, clip(text, TEXT_MAX));
            }
        }
    }
}

/// An id may be long; a line is not.
const TEXT_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_is_known() {
        let event = Event {
            name: "log_in",
            result: "invalid_credentials",
            api: Some("token"),
            client: Some("192.0.2.1".parse().unwrap()),
            request_id: Some("r1"),
            ..Event::default()
        };
        let now = Duration::from_secs(1_234_567_890);
        let (mut json, mut eyes) = (String::new(), String::new());
        event.push_as_json(&mut json, now);
        event.push_for_eyes(&mut eyes, now);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["audit"], "log_in");
        assert_eq!(read["result"], "invalid_credentials");
        assert_eq!(read["client"], "192.0.2.1");
        assert_eq!(read["request_id"], "r1");
        assert!(read.get("user_id").is_none());
        assert!(eyes.ends_with(
            "audit=log_in result=invalid_credentials api=token client=192.0.2.1 request_id=r1"
        ));
    }
}
