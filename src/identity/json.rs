//! JSON read strictly, for documents whose author may be hostile: a member that comes twice is an error at
//! every level (serde would silently keep the last one), nesting is bounded, nothing may follow the value.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The text was not JSON as we accept it. Says no more, because the text may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not well-formed JSON")]
pub struct Malformed;

/// Reads one JSON object: UTF-8 without BOM, no member twice, at most 127 levels deep.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(_) | Err(_) => Err(Malformed),
    }
}

/// Reads one JSON value as strictly.
pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
    let Strict(value) = serde_json::from_slice(bytes).map_err(|_| Malformed)?;
    Ok(value)
}

/// Reads the text of one member of a JSON object, and of the rest no more than tells where it ends: a third of
/// the work of [`parse_object`], which alone says whether the object is sound. `None`: it is not there, or no
/// text. Twice is an error.
pub fn read_member(bytes: &[u8], name: &str) -> Result<Option<String>, Malformed> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let text = Member(name).deserialize(&mut reader);
    reader.end().map_err(|_| Malformed)?;
    text.map_err(|_| Malformed)
}

/// The one member of this name.
struct Member<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut text: Option<&RawValue> = None;
        while let Some(wanted) = access.next_key_seed(IsNamed(self.0))? {
            if !wanted {
                access.next_value::<IgnoredAny>()?;
            } else if text.replace(access.next_value()?).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(text.and_then(|text| serde_json::from_str(text.get()).ok()))
    }
}

/// Whether a key, its escapes resolved, is this one.
struct IsNamed<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<bool, E> {
        Ok(key == self.0.as_bytes())
    }
}

/// A `Value` whose objects hold no member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without doubled members")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_object_is_read_whole() {
        let text = br#"{"a":[1,-2,1.5,"x",null,true],"b":{"c":{}}}"#;
        let map = parse_object(text).unwrap();
        assert_eq!(
            Value::Object(map),
            serde_json::from_slice::<Value>(text).unwrap()
        );
    }

    #[test]
    fn hostile_texts_are_refused() {
        let utf16: Vec<u8> = r#"{"a":1}"#.bytes().flat_map(|byte| [byte, 0]).collect();
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        let texts: &[&[u8]] = &[
            b"",
            b"[]",
            b"\"a\"",
            b"null",
            b"\xef\xbb\xbf{}",
            b"{}x",
            b"{} {}",
            b"{\0}",
            b"{\"a\":1,\"a\":1}",
            b"{\"a\":1,\"\\u0061\":2}",
            b"{\"a\":{\"b\":1,\"b\":2}}",
            b"{\"a\":[{\"b\":1,\"b\":2}]}",
            b"{\"a\":NaN}",
            b"{\"a\":1e400}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"{'a':1}",
            b"{\"a\":1,}",
            &utf16,
            deep.as_bytes(),
        ];
        for text in texts {
            let shown = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
            assert_eq!(parse_object(text), Err(Malformed), "{shown}");
        }
    }

    #[test]
    fn one_member_is_read_without_the_others() {
        let rows: &[(&str, Result<Option<&str>, Malformed>)] = &[
            (r#"{"iss":"a"}"#, Ok(Some("a"))),
            (
                r#"{"x":{"iss":"b"},"iss":"a","y":[1,{"iss":2}]}"#,
                Ok(Some("a")),
            ),
            (r#"{"\u0069ss":"\u0061"}"#, Ok(Some("a"))),
            (r#"{"is":"a","isst":"b"}"#, Ok(None)),
            ("{}", Ok(None)),
            (r#"{"iss":7}"#, Ok(None)),
            (r#"{"iss":["a"]}"#, Ok(None)),
            (r#"{"iss":null}"#, Ok(None)),
            (r#"{"iss":"a","iss":"a"}"#, Err(Malformed)),
            (r#"{"iss":"a","\u0069ss":"b"}"#, Err(Malformed)),
            (r#"{"iss":"a"}x"#, Err(Malformed)),
            (r#"{"iss":"a""#, Err(Malformed)),
            (r#"["iss","a"]"#, Err(Malformed)),
            ("", Err(Malformed)),
        ];
        for (text, member) in rows {
            let read = read_member(text.as_bytes(), "iss");
            assert_eq!(
                read.as_ref().map(Option::as_deref),
                member.as_ref().map(|text| *text),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_member_of_a_sound_object_is_read_alike_both_ways(text in r#"\{("(iss|b|\\u0069ss)":("x"|1|\{"iss":"y"\}),?){0,3}\}"#) {
            if let Ok(whole) = parse_object(text.as_bytes()) {
                let expected = whole.get("iss").and_then(Value::as_str).map(str::to_owned);
                proptest::prop_assert_eq!(read_member(text.as_bytes(), "iss"), Ok(expected));
            }
        }
    }
}
