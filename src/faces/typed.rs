//! From a JSON object to a request's type, saying which member is missing or wrong; serde_json's own reader
//! tells that in words alone. What came is never in what is said: it may be a password.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer, Unexpected, Visitor};
use serde_json::{Map, Value};

use super::body::Flaw;

/// Reads a request. Members that its type does not have are passed over.
///
/// # Errors
/// A member that is missing, or of the wrong type.
pub fn read<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Flaw> {
    T::deserialize(Node {
        value: Value::Object(object),
        at: String::new(),
    })
    .map_err(|wrong| wrong.0)
}

/// A value, and the member that it stands in.
struct Node {
    value: Value,
    at: String,
}

/// A flaw, while serde carries it.
#[derive(Debug)]
struct Wrong(Flaw);

impl Wrong {
    fn of(at: &str) -> Self {
        Self(Flaw::Wrong(at.into()))
    }

    /// Says where it is, if that is not known yet.
    fn at(self, at: &str) -> Self {
        match self.0 {
            Flaw::Wrong(field) if field.is_empty() => Self::of(at),
            Flaw::Missing(field) if !at.is_empty() && !field.contains('.') => {
                Self(Flaw::Missing(format!("{at}.{field}").into()))
            }
            flaw => Self(flaw),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Wrong {}

impl Error for Wrong {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::of("")
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Flaw::Missing(field.into()))
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn serde::de::Expected) -> Self {
        Self::of("")
    }
}

impl<'de> IntoDeserializer<'de, Wrong> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Node {
    fn inner(at: &str, name: &str, value: Value) -> Self {
        let at = match at {
            "" => name.to_owned(),
            at => format!("{at}.{name}"),
        };
        Self { value, at }
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let Self { value, at } = self;
        let read = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => number.deserialize_any(visitor).map_err(|_| Wrong::of("")),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(values) => {
                let nodes = values.into_iter().map(|value| Node {
                    value,
                    at: at.clone(),
                });
                visitor.visit_seq(SeqDeserializer::new(nodes))
            }
            Value::Object(members) => {
                let nodes = members.into_iter().map(|(name, value)| {
                    let node = Node::inner(&at, &name, value);
                    (name, node)
                });
                visitor.visit_map(MapDeserializer::new(nodes))
            }
        };
        read.map_err(|wrong| wrong.at(&at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let at = self.at;
        match self.value {
            Value::String(word) => visitor
                .visit_enum(word.into_deserializer())
                .map_err(|wrong: Wrong| wrong.at(&at)),
            _ => Err(Wrong::of(&at)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "what is read is shown by Debug")]
    struct Asked {
        name: String,
        age: Option<u32>,
        #[serde(default)]
        more: Map<String, Value>,
        inner: Option<Inner>,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        list: Vec<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
    }

    #[test]
    fn what_is_wrong_is_named_and_what_came_is_not() {
        let wrong = |field: &str| format!("Wrong({field:?})");
        let missing = |field: &str| format!("Missing({field:?})");
        for (asked, expected) in [
            (json!({}), missing("name")),
            (json!({"name": null}), wrong("name")),
            (json!({"name": 1}), wrong("name")),
            (json!({"name": ["hunter2"]}), wrong("name")),
            (json!({"name": {"$ne": ""}}), wrong("name")),
            (json!({"name": "a", "age": -1}), wrong("age")),
            (json!({"name": "a", "age": 1.5}), wrong("age")),
            (json!({"name": "a", "age": "1"}), wrong("age")),
            (json!({"name": "a", "age": 4_294_967_296_u64}), wrong("age")),
            (json!({"name": "a", "more": []}), wrong("more")),
            (json!({"name": "a", "inner": {}}), missing("inner.list")),
            (
                json!({"name": "a", "inner": {"list": [1]}}),
                wrong("inner.list"),
            ),
            (json!({"name": "a", "kind": "two"}), wrong("kind")),
            (json!({"name": "a", "kind": {"one": 1}}), wrong("kind")),
        ] {
            let Value::Object(object) = asked.clone() else {
                panic!("{asked}")
            };
            let flaw = read::<Asked>(object).expect_err("it is flawed");
            assert_eq!(format!("{flaw:?}"), expected, "{asked}");
        }
    }

    #[test]
    fn what_is_right_is_read_and_what_is_not_known_is_passed_over() {
        let asked = json!({
            "name": "a", "age": null, "more": {"x": [1, {"y": null}]}, "inner": {"list": ["b"]},
            "kind": "one", "role": "admin", "other": {"name": 1},
        });
        let Value::Object(object) = asked else {
            panic!("an object")
        };
        let asked: Asked = read(object).expect("it is right");
        assert_eq!(asked.more["x"], json!([1, {"y": null}]));
        assert_eq!((&*asked.name, asked.age), ("a", None));
        assert_eq!(asked.inner.expect("it is there").list, ["b"]);
    }
}
