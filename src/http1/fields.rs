//! Header lines, read and written, and what `Connection` says of the connection (RFC 9112 §5, §9.3).

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::http1::Fault;

/// The fields as a map whose values are views of `bytes`.
///
/// # Errors
/// When one is none; the parser has looked at most of it before.
pub fn fields_of(fields: &[httparse::Header<'_>], bytes: &Bytes) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::with_capacity(fields.len() + SPARE_FIELDS);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| httparse::Error::HeaderValue)?);
    }
    Ok(headers)
}

/// Which of the fields that steer a request's way are there at all, seen in one pass: to look for one that is not in the map
/// takes 90 instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Present {
    pub framing: bool,
    pub connection: bool,
    pub te: bool,
    pub upgrade: bool,
    pub expect: bool,
}

impl Present {
    /// In these.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match *name {
                CONTENT_LENGTH | TRANSFER_ENCODING => present.framing = true,
                CONNECTION => present.connection = true,
                TE => present.te = true,
                UPGRADE => present.upgrade = true,
                EXPECT => present.expect = true,
                _ => {}
            }
        }
        present
    }
}

/// Writes one line. Names and values of the `http` crate hold no line ends, so that nothing in them can end
/// a line.
pub fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in decimal.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Whether the connection outlives a message with these fields (RFC 9112 §9.3).
pub fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    match version {
        Version::HTTP_11 => !says(headers, b"close"),
        _ => says(headers, b"keep-alive") && !says(headers, b"close"),
    }
}

/// Whether `Connection` names this option.
pub fn says(headers: &HeaderMap, option: &[u8]) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    let mut options = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    options.any(|said| said.trim_ascii().eq_ignore_ascii_case(option))
}

/// Room for what is added on the way.
const SPARE_FIELDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_seen_and_nothing_else() {
        let here = |names: &[&str]| {
            let field = |name: &&str| (name.parse().unwrap(), HeaderValue::from_static("x"));
            let fields: Vec<(HeaderName, _)> = names.iter().map(field).collect();
            Present::of(&HeaderMap::from_iter(fields))
        };
        let nothing = Present::default();
        assert_eq!(here(&["host", "content-type", "x-te"]), nothing);
        for (name, place) in [
            ("content-length", 0),
            ("transfer-encoding", 0),
            ("connection", 1),
            ("te", 2),
            ("upgrade", 3),
            ("expect", 4),
        ] {
            let it = here(&["host", name, "accept"]);
            let seen = [it.framing, it.connection, it.te, it.upgrade, it.expect];
            let expected: [bool; 5] = std::array::from_fn(|at| at == place);
            assert_eq!(seen, expected, "{name}");
        }
    }
}
