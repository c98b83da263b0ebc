//! The path in the one spelling that is matched and forwarded, and its loose form for the second look.
//! What could be read in two ways is refused, not mended; only what RFC 3986 §6.2.2 calls equivalent
//! (hex digits' case, escapes of unreserved characters) is rewritten. Escapes are decoded once.

use std::borrow::Cow;

use crate::refusal::Refusal;

/// The normalized form of `path`, borrowed where it is normal already.
///
/// Refuses dot segments in any spelling, empty segments, backslashes, `#`, control and 8-bit bytes, and
/// escapes that are broken or that stand for a slash, a backslash, a control or no valid UTF-8.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, Refusal> {
    let traits = Traits::of(path);
    if !path.starts_with('/') || traits.has(UNSAFE) {
        return Err(Refusal::PathUnsafe);
    }
    let normal = if traits.has(ESCAPE) {
        unescape(path)?
    } else {
        Cow::Borrowed(path)
    };
    if traits.has(DOT | ESCAPE) && normal.split('/').any(is_dot_segment) {
        return Err(Refusal::PathUnsafe);
    }
    Ok(normal)
}

/// The form in which a lenient upstream may read a normalized path: letters lower-cased, `;parameters`,
/// trailing dots and the trailing slash cut. `None` where that is the path itself.
pub fn loosen(path: &str) -> Option<Box<str>> {
    let traits = Traits::of(path);
    if !traits.has(UPPER | SEMICOLON | ESCAPE | DOT) && !ends_with_slash(path) {
        return None;
    }
    let mut loose = String::with_capacity(path.len());
    for segment in path.split('/') {
        let segment = cut_parameters(segment).trim_end_matches('.');
        if !segment.is_empty() {
            loose.push('/');
            push_lower(&mut loose, segment);
        }
    }
    if loose.is_empty() {
        loose.push('/');
    }
    (loose != path).then(|| loose.into_boxed_str())
}

/// Decodes every escape once, for values that are shown and not matched. `None` for a broken escape or
/// for what is not UTF-8 afterwards.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            bytes.push(escape(rest)?);
            rest = &rest[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Which kinds of bytes a path holds, found in one pass.
#[derive(Clone, Copy)]
struct Traits(u8);

/// Refused as it stands.
const UNSAFE: u8 = 1;
const ESCAPE: u8 = 2;
const UPPER: u8 = 4;
const SEMICOLON: u8 = 8;
const DOT: u8 = 16;
const SLASH: u8 = 32;

impl Traits {
    fn of(path: &str) -> Self {
        let mut seen = 0;
        let mut before = 0;
        for &byte in path.as_bytes() {
            let class = CLASSES[usize::from(byte)];
            // `//` is read as `/` by some servers and as an empty segment by others.
            seen |= class | u8::from(class & before & SLASH != 0);
            before = class;
        }
        Self(seen)
    }

    fn has(self, any: u8) -> bool {
        self.0 & any != 0
    }
}

/// The class of each byte.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0..=0x20 | 0x7f..=0xff | b'\\' | b'#' | b'?' => UNSAFE,
            b'A'..=b'Z' => UPPER,
            b'%' => ESCAPE,
            b';' => SEMICOLON,
            b'.' => DOT,
            b'/' => SLASH,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Decodes the escapes of unreserved characters and puts the others in upper case; copies nothing while
/// nothing changes.
fn unescape(path: &str) -> Result<Cow<'_, str>, Refusal> {
    let bytes = path.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut text = Utf8::default();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            text.end()?;
            at += 1;
            continue;
        }
        let byte = escape(&bytes[at..]).ok_or(Refusal::PathUnsafe)?;
        text.push(byte)?;
        let written = &path[at..at + 3];
        if is_unreserved(byte) {
            out.push_str(&path[copied..at]);
            out.push(char::from(byte));
            copied = at + 3;
        } else if written.bytes().any(|byte| byte.is_ascii_lowercase()) {
            out.push_str(&path[copied..at]);
            out.extend(written.chars().map(|digit| digit.to_ascii_uppercase()));
            copied = at + 3;
        }
        at += 3;
    }
    text.end()?;
    if copied == 0 {
        return Ok(Cow::Borrowed(path));
    }
    out.push_str(&path[copied..]);
    Ok(Cow::Owned(out))
}

/// The byte that the escape at the start of `text` stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let high = char::from(*text.get(1)?).to_digit(16)?;
    let low = char::from(*text.get(2)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Follows the escaped bytes of one character, so that overlong forms, surrogates and cut characters,
/// which decoders read differently, are refused.
#[derive(Default)]
struct Utf8 {
    bytes: [u8; 4],
    len: usize,
    need: usize,
}

impl Utf8 {
    /// The next escaped byte.
    fn push(&mut self, byte: u8) -> Result<(), Refusal> {
        if byte < 0x80 {
            self.end()?;
            return match byte {
                0..=0x1f | 0x7f | b'/' | b'\\' => Err(Refusal::PathUnsafe),
                _ => Ok(()),
            };
        }
        if self.need == 0 {
            self.need = match byte {
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return Err(Refusal::PathUnsafe),
            };
        }
        self.bytes[self.len] = byte;
        self.len += 1;
        if self.len < self.need {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[..self.len]) {
            Ok(text) if !text.chars().any(char::is_control) => {
                *self = Self::default();
                Ok(())
            }
            _ => Err(Refusal::PathUnsafe),
        }
    }

    /// No escape follows directly: no character may be open.
    fn end(&self) -> Result<(), Refusal> {
        match self.len {
            0 => Ok(()),
            _ => Err(Refusal::PathUnsafe),
        }
    }
}

/// Whether any reader takes this for `.` or `..`: alone, with `;parameters` (Tomcat), or with spaces behind.
fn is_dot_segment(segment: &str) -> bool {
    segment.starts_with('.') && {
        let name = cut_parameters(segment);
        let name = name.find("%20").map_or(name, |at| &name[..at]);
        matches!(name, "." | "..")
    }
}

/// A segment without its `;parameters`, spelled plainly or escaped.
fn cut_parameters(segment: &str) -> &str {
    let segment = segment.find(';').map_or(segment, |at| &segment[..at]);
    segment.find("%3B").map_or(segment, |at| &segment[..at])
}

fn ends_with_slash(path: &str) -> bool {
    path.len() > 1 && path.ends_with('/')
}

/// Lower-cases letters; the digits of escapes keep their normal form.
fn push_lower(out: &mut String, segment: &str) {
    let mut digits = 0;
    for letter in segment.chars() {
        if letter == '%' {
            digits = 3;
        }
        if digits > 0 {
            digits -= 1;
            out.push(letter);
        } else {
            out.push(letter.to_ascii_lowercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "//a",
            "/a//",
            "/./a",
            "/a/.",
            "/../a",
            "/a/..",
            "/a/../b",
            "/%2e%2e/a",
            "/.%2e/a",
            "/%2E./a",
            "/%2e/a",
            "/..;/a",
            "/..;a=b/a",
            "/.;/a",
            "/..%3b/a",
            "/..%3B/a",
            "/a/..%20/b",
            "/a\\b",
            "/a%5cb",
            "/a%5Cb",
            "/a%2fb",
            "/a%2Fb",
            "/a%00",
            "/a%0d%0ab",
            "/a%0a",
            "/a%09b",
            "/a%1f",
            "/a%7f",
            "/a b",
            "/a\tb",
            "/a\u{0}",
            "/a#b",
            "/é",
            "/a%u002fb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%2gb",
            "/a%%41",
            "/a?b",
            "/%c0%ae%c0%ae/",
            "/%c0%af",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%ff",
            "/%80",
            "/%c3",
            "/%c3/",
            "/%c3a",
            "/%e4%bd/",
            "/%ed%a0%80",
            "/%f4%90%80%80",
            "/%c2%85",
            "/%c3%c3",
        ] {
            assert_eq!(normalize(path), Err(Refusal::PathUnsafe), "{path:?}");
        }
    }

    #[test]
    fn equivalent_spellings_become_one() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/", "/a/"),
            ("/%61pi", "/api"),
            ("/a%2Db%5F%7e", "/a-b_~"),
            ("/a%e4%bd%a0", "/a%E4%BD%A0"),
            ("/%E4%BD%A0", "/%E4%BD%A0"),
            ("/%252e%252e", "/%252e%252e"),
            ("/%25%32%65", "/%252e"),
            ("/a%3fb%23", "/a%3Fb%23"),
            ("/a%3bb", "/a%3Bb"),
            ("/...", "/..."),
            ("/..a", "/..a"),
            ("/a.b", "/a.b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a;x=1", "/a;x=1"),
            ("/a%20b", "/a%20b"),
            ("/A:@!$&'()*+,=~", "/A:@!$&'()*+,=~"),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(normal), "{path:?}");
        }
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/", "/api/v1/x", "/a.b/%E4%BD%A0", "/A;x"] {
            assert!(matches!(normalize(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn the_loose_form_is_what_a_lenient_upstream_reads() {
        for (path, loose) in [
            ("/api", None),
            ("/", None),
            ("/a.b", None),
            ("/%E4%BD", None),
            ("/API", Some("/api")),
            ("/api;x=1", Some("/api")),
            ("/a;x/b;y", Some("/a/b")),
            ("/api.", Some("/api")),
            ("/api./b", Some("/api/b")),
            ("/api/", Some("/api")),
            ("/;x/api", Some("/api")),
            ("/api%3Bx", Some("/api")),
            ("/A%E4", Some("/a%E4")),
            ("/...", Some("/")),
        ] {
            assert_eq!(loosen(path).as_deref(), loose, "{path}");
        }
    }

    #[test]
    fn a_value_is_decoded_once() {
        assert_eq!(percent_decode("a%2Fb").as_deref(), Some("a/b"));
        assert_eq!(percent_decode("%2561").as_deref(), Some("%61"));
        assert_eq!(percent_decode("plain").as_deref(), Some("plain"));
        assert_eq!(percent_decode("%E4%BD%A0").as_deref(), Some("你"));
        for broken in ["%", "%4", "%zz", "%ff", "a%"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(path in "/[a-zA-Z0-9%2eEfF5cC./;~-]{0,24}") {
            if let Ok(normal) = normalize(&path) {
                let again = normalize(&normal);
                prop_assert_eq!(again.as_deref(), Ok(&*normal));
            }
        }

        #[test]
        fn a_normal_path_has_no_dot_or_empty_segments_however_it_is_decoded(path in "(/|%2e|%2E|\\.|;|a|%3b|%25){1,12}") {
            if let Ok(normal) = normalize(&format!("/{path}")) {
                let decoded = percent_decode(&normal).unwrap_or_default().into_owned();
                for text in [&*normal, &*decoded] {
                    let mut segments = text[1..].split('/').peekable();
                    while let Some(segment) = segments.next() {
                        let name = segment.split(';').next().unwrap_or_default();
                        prop_assert!(!matches!(name, "." | ".."), "{}", text);
                        prop_assert!(!segment.is_empty() || segments.peek().is_none(), "{}", text);
                    }
                }
            }
        }

        #[test]
        fn loosening_twice_changes_nothing(path in "/[a-zA-Z./;]{0,16}") {
            if let Some(loose) = loosen(&path) {
                prop_assert_eq!(loosen(&loose), None);
            }
        }
    }
}
