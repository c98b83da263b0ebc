//! Header lines, read and written, and what `Connection` says of the connection (RFC 9112 §5, §9.3).

use bytes::Bytes;
use http::header::CONNECTION;
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

/// Writes one line. Names and values of the `http` crate hold no line ends, so that nothing in them can end
/// a line.
pub fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in decimal.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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
