//! Puts the caller's fields into the JSON of chosen events. Works on the text: every other member stays
//! as the upstream wrote it, byte for byte (long numbers, key order, escapes, white space).
//! What is no JSON object passes untouched.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::{ClaimPath, Enrich};
use crate::identity::Identity;

/// The fields of one stream: name and value, both as rendered JSON's reader and writer need them.
#[derive(Debug)]
pub struct Fields(Box<[(Box<str>, Box<str>)]>);

impl Fields {
    /// Renders `fields` from the identity's claims; for a guest, and where a claim is missing, `null`.
    pub fn of(identity: Option<&Identity>, fields: &[(Box<str>, ClaimPath)]) -> Self {
        let render = |path: &ClaimPath| {
            let claim = identity.and_then(|identity| path.find(identity.claims.all()));
            claim.map_or_else(|| "null".into(), |claim| claim.to_string().into())
        };
        let fields = fields.iter();
        Self(
            fields
                .map(|(name, path)| (name.clone(), render(path)))
                .collect(),
        )
    }

    /// Names and rendered JSON values.
    pub fn as_slice(&self) -> &[(Box<str>, Box<str>)] {
        &self.0
    }

    /// The event with the fields in its JSON; `None` where it passes as it is. `event` is one whole
    /// event with its blank line.
    pub fn rewrite(&self, event: &[u8]) -> Option<Vec<u8>> {
        let lines: Vec<Line> = lines(event)
            .filter(|line| line.name(event) == b"data")
            .collect();
        let text = match &lines[..] {
            [line] => Cow::from(&event[line.value.clone()]),
            lines => {
                let values: Vec<&[u8]> = lines
                    .iter()
                    .map(|line| &event[line.value.clone()])
                    .collect();
                Cow::from(values.join(&b'\n'))
            }
        };
        let text = self.enrich(std::str::from_utf8(&text).ok()?)?;
        Some(replace(event, &lines, &text))
    }

    /// The JSON object with the fields set: an existing member's value is replaced where it stands, its
    /// doubles are removed, a missing member is added at the end. `None` if `json` is no object.
    fn enrich(&self, json: &str) -> Option<String> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let members = Members(self).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        let mut out = String::with_capacity(json.len() + 128);
        let mut seen = vec![false; self.0.len()];
        let mut copied = 0;
        let mut end = json.find('{')? + 1;
        for (field, value) in &members {
            let range = place(json, value);
            if let Some(field) = *field {
                let double = std::mem::replace(&mut seen[field], true);
                // A double goes with the comma before it.
                out.push_str(&json[copied..if double { end } else { range.start }]);
                out.push_str(if double { "" } else { &self.0[field].1 });
                copied = range.end;
            }
            end = range.end;
        }
        out.push_str(&json[copied..end]);
        let mut comma = if members.is_empty() { "" } else { "," };
        for ((name, value), _) in self.0.iter().zip(seen).filter(|(_, seen)| !seen) {
            out.push_str(comma);
            out.push_str(&Value::from(&**name).to_string());
            out.push(':');
            out.push_str(value);
            comma = ",";
        }
        out.push_str(&json[end..]);
        Some(out)
    }
}

/// The data of one whole event, its lines joined; `None` where it has none.
pub fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let lines: Vec<Line> = lines(event)
        .filter(|line| line.name(event) == b"data")
        .collect();
    match &lines[..] {
        [] => None,
        [line] => Some(Cow::from(&event[line.value.clone()])),
        lines => {
            let values: Vec<&[u8]> = lines
                .iter()
                .map(|line| &event[line.value.clone()])
                .collect();
            Some(Cow::from(values.join(&b'\n')))
        }
    }
}

/// Whether `enrich` asks for this event. An event without a name is a `message`, and the last name counts.
pub fn is_chosen(enrich: &Enrich, event: &[u8]) -> bool {
    let names = match enrich {
        Enrich::None => return false,
        Enrich::All => return true,
        Enrich::Named(names) => names,
    };
    let named = lines(event)
        .filter(|line| line.name(event) == b"event")
        .last();
    let name = match named {
        Some(line) if !line.value.is_empty() => &event[line.value],
        _ => b"message",
    };
    names.iter().any(|chosen| chosen.as_bytes() == name)
}

/// One line of an event, as positions in it: field name, value (without the one space before it), and
/// the line with its end.
struct Line {
    name: Range<usize>,
    value: Range<usize>,
    whole: Range<usize>,
}

impl Line {
    fn name<'e>(&self, event: &'e [u8]) -> &'e [u8] {
        &event[self.name.clone()]
    }
}

/// The lines of an event.
fn lines(event: &[u8]) -> impl Iterator<Item = Line> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = event.get(start..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let end = start + length;
        let line = &event[start..end];
        let colon = memchr::memchr(b':', line).unwrap_or(length);
        let space = usize::from(line.get(colon + 1) == Some(&b' '));
        let next = match event.get(end..end + 2) {
            Some(b"\r\n") => end + 2,
            _ => (end + 1).min(event.len()),
        };
        let line = Line {
            name: start..start + colon,
            value: (start + colon + 1 + space).min(end)..end,
            whole: start..next,
        };
        start = next;
        Some(line)
    })
}

/// The event with `text` in place of the values of its data lines: line by line, as far as there are some.
fn replace(event: &[u8], lines: &[Line], text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len() + text.len());
    let mut copied = 0;
    let mut parts = text.split('\n');
    for line in lines {
        out.extend_from_slice(&event[copied..line.whole.start]);
        copied = line.whole.end;
        // Removing a double may have joined lines: then the last ones have nothing to say.
        let Some(part) = parts.next() else { continue };
        let prefix = &event[line.whole.start..line.value.start];
        // `data:` before a part that begins with a space would lose that space.
        let safe = prefix.ends_with(b" ") || prefix.ends_with(b":") && !part.starts_with(' ');
        out.extend_from_slice(if safe { prefix } else { b"data: " });
        out.extend_from_slice(part.as_bytes());
        out.extend_from_slice(&event[line.value.end..line.whole.end]);
    }
    out.extend_from_slice(&event[copied..]);
    out
}

/// Where `part`, a slice of `whole`, stands in it.
fn place(whole: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.get().len()
}

/// Reads the members of an object in their order: which field each one is, and its value's text.
struct Members<'f>(&'f Fields);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Vec<(Option<usize>, &'de RawValue)>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<(Option<usize>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(field) = map.next_key_seed(Key(self.0))? {
            members.push((field, map.next_value()?));
        }
        Ok(members)
    }
}

/// Tells which field a key is, its escapes resolved. Read as bytes: a lone surrogate in some other key,
/// which JavaScript takes, must not let a forged member pass.
struct Key<'f>(&'f Fields);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Self::Value, E> {
        let mut fields = self.0.0.iter();
        Ok(fields.position(|(name, _)| name.as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let user = ("user_id".into(), r#""u-1""#.into());
        Fields([user, ("user_email".into(), "null".into())].into())
    }

    #[test]
    fn members_are_set_and_all_other_text_stays() {
        let both = r#""user_id":"u-1","user_email":null"#;
        let table = [
            ("{}", format!("{{{both}}}")),
            ("{ }", format!("{{{both} }}")),
            (r#"{"a":1}"#, format!(r#"{{"a":1,{both}}}"#)),
            (
                r#" {"n": 123456789012345678901234567890.10e+5 , "z":"\u4f60\/", "a" : [ 1,2 ] } "#,
                format!(
                    r#" {{"n": 123456789012345678901234567890.10e+5 , "z":"\u4f60\/", "a" : [ 1,2 ],{both} }} "#
                ),
            ),
            (
                r#"{"user_id": "forged", "a":1,"user_email":[{}]}"#,
                r#"{"user_id": "u-1", "a":1,"user_email":null}"#.to_owned(),
            ),
            (
                r#"{"user_id":1, "a":1, "user_id" : 2,"b":2 ,"user\u005fid":3, "user_email":0}"#,
                r#"{"user_id":"u-1", "a":1,"b":2, "user_email":null}"#.to_owned(),
            ),
            (
                r#"{"a":{"user_id":7}}"#,
                format!(r#"{{"a":{{"user_id":7}},{both}}}"#),
            ),
            (
                r#"{"\ud800":1,"user_id":"forged"}"#,
                r#"{"\ud800":1,"user_id":"u-1","user_email":null}"#.to_owned(),
            ),
        ];
        for (json, expected) in table {
            assert_eq!(fields().enrich(json).as_deref(), Some(&*expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_object_passes_untouched() {
        for data in [
            "", "[DONE]", "null", "1", "\"{}\"", "[{}]", "{", "{}}", "{} x", "{a:1}", "{\"a\":}",
        ] {
            let event = format!("event: start\ndata: {data}\n\n");
            assert_eq!(fields().rewrite(event.as_bytes()), None, "{data}");
        }
        assert_eq!(fields().rewrite(b"event: start\n\n"), None);
        assert_eq!(fields().rewrite(b"data: {\"a\":\"\xff\"}\n\n"), None);
    }

    #[test]
    fn a_deep_value_is_no_trouble() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let enriched = fields().enrich(&deep).unwrap_or_default();
        assert!(enriched.ends_with(r#","user_id":"u-1","user_email":null}"#));
    }

    #[test]
    fn other_lines_and_line_ends_stay() {
        let table: [(&str, &str); 5] = [
            (
                "id: 7\r\nevent:start\r\ndata:{\"a\":1}\r\n\r\n",
                "id: 7\r\nevent:start\r\ndata:{\"a\":1,\"user_id\":\"u-1\",\"user_email\":null}\r\n\r\n",
            ),
            (
                "data: {\rid: 1\rdata: \"a\":1\rdata\rdata:}\r: x\r\r",
                "data: {\rid: 1\rdata: \"a\":1,\"user_id\":\"u-1\",\"user_email\":null\rdata: \rdata:}\r: x\r\r",
            ),
            (
                "data: {\"user_id\":1,\ndata: \"user_id\":2,\ndata:  \"a\":1}\n\n",
                "data: {\"user_id\":\"u-1\",\ndata:  \"a\":1,\"user_email\":null}\n\n",
            ),
            (
                "data: {\"user_id\":1\ndata:,\"user_id\":2\ndata:  ,\"a\":1}\n\n",
                "data: {\"user_id\":\"u-1\"\ndata:  ,\"a\":1,\"user_email\":null}\n\n",
            ),
            (
                "data: {}\n\n",
                "data: {\"user_id\":\"u-1\",\"user_email\":null}\n\n",
            ),
        ];
        for (event, expected) in table {
            let rewritten = fields().rewrite(event.as_bytes()).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&rewritten), expected);
        }
    }

    #[test]
    fn the_last_name_chooses_the_event() {
        let named = Enrich::Named(["start".into(), "message".into()].into());
        let table: [(&[u8], bool); 8] = [
            (b"event: start\ndata: {}\n\n", true),
            (b"event:start\rdata: {}\r\r", true),
            (b"event: progress\ndata: {}\n\n", false),
            (b"event:  start\ndata: {}\n\n", false),
            (b"data: {}\n\n", true),
            (b"event\ndata: {}\n\n", true),
            (b"event: start\nevent: progress\n\n", false),
            (b"event: progress\nevent: start\n\n", true),
        ];
        for (event, expected) in table {
            assert_eq!(
                is_chosen(&named, event),
                expected,
                "{}",
                event.escape_ascii()
            );
        }
        assert!(is_chosen(&Enrich::All, b"data: {}\n\n"));
        assert!(!is_chosen(&Enrich::None, b"data: {}\n\n"));
    }

    #[test]
    fn a_guest_and_a_missing_claim_give_null() {
        let path = ClaimPath([Box::from("sub")].into());
        let fields = Fields::of(None, &[("user_id".into(), path)]);
        assert_eq!(&*fields.as_slice()[0].1, "null");
    }
}
