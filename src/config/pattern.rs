//! Path patterns: `/a/{id}/{*rest}`. What could be read in two ways is refused, as in a request.

use super::units::Wrong;
use super::{PathPattern, Segment};

/// Reads a route's path.
pub(super) fn path(text: &str) -> Result<PathPattern, Wrong> {
    let rest = text
        .strip_prefix('/')
        .ok_or_else(|| Wrong::new("does not begin with a slash", format!("write \"/{text}\"")))?;
    let last = rest.split('/').count() - 1;
    let mut segments = Vec::with_capacity(last + 1);
    for (at, segment) in rest.split('/').enumerate() {
        if segment.is_empty() && at < last {
            return Err(Wrong::new("holds //", "write one slash"));
        }
        let segment = read_segment(segment)?;
        if matches!(segment, Segment::Rest(_)) && at < last {
            return Err(Wrong::new(
                "goes on after {*…}",
                "{*name} takes everything that is left: put it last",
            ));
        }
        segments.push(segment);
    }
    names_are_apart(&segments)?;
    Ok(PathPattern(segments))
}

/// Reads `mount`: literal segments, no slash at the end.
pub(super) fn mount(text: &str) -> Result<Box<str>, Wrong> {
    let pattern = path(text)?;
    let literal = |segment: &Segment| matches!(segment, Segment::Literal(text) if !text.is_empty());
    if pattern.0.iter().all(literal) && !text.contains('%') {
        return Ok(text.into());
    }
    Err(Wrong::new(
        "is not a place to mount",
        "write a path with no parameter and no slash at its end: \"/_portcullis\"",
    ))
}

/// Reads a path with an optional query that the gateway sends itself.
pub(super) fn request_target(text: &str) -> Result<Box<str>, Wrong> {
    let sendable = text.parse::<http::uri::PathAndQuery>().is_ok() && text.starts_with('/');
    if sendable && !text.contains('#') {
        return Ok(text.into());
    }
    Err(Wrong::new("is not a path", "write \"/health\""))
}

fn read_segment(text: &str) -> Result<Segment, Wrong> {
    if !text.contains(['{', '}']) {
        return literal(text);
    }
    let name = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
        .ok_or_else(half_parameter)?;
    let (rest, name) = match name.strip_prefix('*') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(half_parameter());
    }
    Ok(match rest {
        true => Segment::Rest(name.into()),
        false => Segment::One(name.into()),
    })
}

fn half_parameter() -> Wrong {
    Wrong::new(
        "has a parameter that is not one",
        "{name} and {*name} take a whole segment; a name is letters, digits and _",
    )
}

fn names_are_apart(segments: &[Segment]) -> Result<(), Wrong> {
    let mut names: Vec<&str> = Vec::new();
    for segment in segments {
        let (Segment::One(name) | Segment::Rest(name)) = segment else {
            continue;
        };
        if names.contains(&&**name) {
            return Err(Wrong::new("has two parameters of one name", "rename one"));
        }
        names.push(name);
    }
    Ok(())
}

/// A literal as a normalized request path has it: unreserved escapes decoded, others in upper case,
/// and what is not ASCII escaped.
fn literal(text: &str) -> Result<Segment, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => escape(&mut out, bytes.next(), bytes.next())?,
            b'?' | b'#' => {
                return Err(Wrong::new(
                    "holds a query or a fragment",
                    "write the path alone",
                ));
            }
            b';' | b'\\' => {
                let what = "holds ; or \\, which servers read in different ways";
                return Err(Wrong::new(what, "leave it out: such requests are refused"));
            }
            b'!'
            | b'$'
            | b'&'..=b'.'
            | b'0'..=b':'
            | b'='
            | b'@'..=b'Z'
            | b'_'
            | b'a'..=b'z'
            | b'~' => out.push(char::from(byte)),
            0x80.. => out.push_str(&format!("%{byte:02X}")),
            _ => {
                let what = "holds a character that no path can hold";
                return Err(Wrong::new(what, format!("write %{byte:02X}")));
            }
        }
    }
    if out == "." || out == ".." {
        return Err(Wrong::new(
            "holds a dot segment",
            "write the path without . and ..",
        ));
    }
    Ok(Segment::Literal(out.into()))
}

fn escape(out: &mut String, high: Option<u8>, low: Option<u8>) -> Result<(), Wrong> {
    let digit = |digit: Option<u8>| char::from(digit?).to_digit(16);
    let Some((high, low)) = digit(high).zip(digit(low)) else {
        return Err(Wrong::new(
            "holds a broken escape",
            "write % and two hexadecimal digits",
        ));
    };
    let byte = u8::try_from(high * 16 + low).unwrap_or_default();
    match byte {
        b'/' | b'\\' | b'%' | b';' | 0..0x20 | 0x7f => {
            let what = "holds an escape that is refused in requests";
            Err(Wrong::new(what, "write the path without it"))
        }
        b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'_' | b'a'..=b'z' | b'~' => {
            out.push(char::from(byte));
            Ok(())
        }
        _ => {
            out.push_str(&format!("%{byte:02X}"));
            Ok(())
        }
    }
}
