//! Header fields that are the same for many messages, kept as the lines that HTTP/1.1 has for them: a caller's, a
//! connection's. They are copied in one piece: to put each into a map, and to take it out again, costs 500 instructions,
//! and a count of references where the memory of many callers is in no cache.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields, as lines and one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// `name: value` and a line end, for each.
    text: Bytes,
    /// Their names, and where in the text their values are.
    fields: Box<[(HeaderName, Range<u32>)]>,
}

impl Lines {
    /// All of them, to stand between others (RFC 9112 §5).
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        self.fields.iter().map(|(name, place)| {
            let value = self.text.slice(place.start as usize..place.end as usize);
            // Made from a value, so that it is one.
            let value = HeaderValue::from_maybe_shared(value);
            (name, value.unwrap_or(HeaderValue::from_static("invalid")))
        })
    }

    /// Puts them in the place of others of their names.
    pub fn put(&self, headers: &mut HeaderMap) {
        for (name, value) in self.iter() {
            headers.insert(name.clone(), value);
        }
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Lines {
    /// Names and values of the `http` crate hold no line ends, so that nothing in them can end a line.
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let mut text = BytesMut::new();
        let position = |text: &BytesMut| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let place = |(name, value): (HeaderName, HeaderValue)| {
            text.put_slice(name.as_str().as_bytes());
            text.put_slice(b": ");
            let start = position(&text);
            text.put_slice(value.as_bytes());
            let end = position(&text);
            text.put_slice(b"\r\n");
            (name, start..end)
        };
        let fields = fields.into_iter().map(place).collect();
        Self {
            // As much as it takes: what it was made in has room for more.
            text: Bytes::copy_from_slice(&text),
            fields,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        let fields = [("x-user-id", "u1"), ("x-empty", ""), ("x-name", "a: b, c")];
        let fields = fields.map(|(name, value)| {
            let value = HeaderValue::from_static(value);
            (HeaderName::from_static(name), value)
        });
        fields.into_iter().collect()
    }

    #[test]
    fn fields_are_lines_and_stay_fields() {
        let lines = lines();
        let expected = b"x-user-id: u1\r\nx-empty: \r\nx-name: a: b, c\r\n";
        assert_eq!(lines.as_bytes(), expected);
        let mut read = HeaderMap::new();
        read.insert("x-user-id", HeaderValue::from_static("a rule's"));
        read.insert("x-other", HeaderValue::from_static("stays"));
        lines.put(&mut read);
        let values = ["x-user-id", "x-empty", "x-name", "x-other"].map(|name| &read[name]);
        assert_eq!(values, ["u1", "", "a: b, c", "stays"]);
        assert_eq!(read.len(), 4);
    }

    #[test]
    fn nobody_is_told_nothing() {
        let none = Lines::default();
        assert!(none.as_bytes().is_empty());
        assert_eq!(none.iter().count(), 0);
    }
}
