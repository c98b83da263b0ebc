//! Events of our own: comments, heartbeats, the last event of a stream.

use std::time::Duration;

use serde_json::Value;

use crate::refusal::{Language, Refusal};

/// The first bytes of every stream: an `EventSource` behind some proxies opens only when one arrives.
pub const GREETING: &[u8] = b": ok\n\n";

/// What is sent while the upstream is silent.
pub const HEARTBEAT: &[u8] = b": ping\n\n";

/// The beginning of an event that tells when to reconnect.
pub fn retry(after: Duration) -> Vec<u8> {
    format!("retry: {}\n", after.as_millis()).into_bytes()
}

/// Writes an event of this name and data to the end of `out`. Line ends in `data` become lines of the
/// event, so that no data ends the event or begins another field.
pub fn write(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    for line in data.split(|&byte| byte == b'\n' || byte == b'\r') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// `{"error","msg"}` of `refusal`, and `fields` (name and rendered JSON) behind them.
pub fn error(refusal: Refusal, language: Language, fields: &[(Box<str>, Box<str>)]) -> Vec<u8> {
    let word = Value::from(refusal.word());
    let text = Value::from(refusal.text(language));
    let mut json = format!(r#"{{"error":{word},"msg":{text}"#);
    for (name, value) in fields {
        json.push(',');
        json.push_str(&Value::from(&**name).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_break_out_of_its_event() {
        let mut out = Vec::new();
        write(&mut out, "error", b"a\n\nevent: x\rb");
        let expected = "event: error\ndata: a\ndata: \ndata: event: x\ndata: b\n\n";
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn an_error_tells_word_text_and_fields() {
        let fields = [("user_id".into(), r#""u\n""#.into())];
        let json = error(Refusal::UpstreamTimeout, Language::En, &fields);
        let expected =
            r#"{"error":"upstream_timeout","msg":"The service took too long","user_id":"u\n"}"#;
        assert_eq!(json, expected.as_bytes());
    }
}
