//! The small languages within strings: durations, sizes, addresses, host names, methods, header names,
//! token sources and claim paths.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};
use ipnet::IpNet;

use super::{ClaimPath, HostPattern, Listen, Source};

/// Why a text is not what its key wants: the rest of a sentence that begins with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(super) what: String,
    pub(super) mend: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.mend)
    }
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// `"500ms"`, `"15s"`, `"5m"`, `"12h"`, `"7d"`: at most a year.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            "is not a duration",
            "write a whole number and ms, s, m, h or d: \"500ms\", \"15s\"",
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let duration = number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= YEAR);
    duration.ok_or_else(|| Wrong::new("is too long", "write at most \"365d\""))
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// `"512B"`, `"64KiB"`, `"10MiB"`, `"1GiB"`: bytes, at most 1 TiB.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    let wrong = || {
        Wrong::new(
            "is not a size",
            "write a whole number and B, KiB, MiB or GiB: \"64KiB\"",
        )
    };
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let size = number.checked_mul(bytes).filter(|size| *size <= 1 << 40);
    size.ok_or_else(|| Wrong::new("is too large", "write at most \"1024GiB\""))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// `"127.0.0.1:8080"`, `"[::]:8080"`, `"localhost:8080"` or `"unix:/path"`.
pub(super) fn listen(text: &str) -> Result<Listen, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Listen::Unix);
    }
    address(text).map(Listen::Tcp)
}

/// The path of a unix socket: absolute.
pub(super) fn unix_path(path: &str) -> Result<PathBuf, Wrong> {
    // sun_path holds 108 bytes with its NUL.
    if path.starts_with('/') && path.len() < 108 && !path.contains('\0') {
        return Ok(PathBuf::from(path));
    }
    Err(Wrong::new(
        "is not the path of a unix socket",
        "write unix: and an absolute path of at most 107 bytes",
    ))
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    let local = text.strip_prefix("localhost:").map(|port| {
        let port = port.parse().ok()?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    });
    local.unwrap_or_else(|| text.parse().ok()).ok_or_else(|| {
        Wrong::new(
            "is not an address",
            "write an IP address and a port: \"127.0.0.1:8080\", \"0.0.0.0:443\", \"[::]:443\"",
        )
    })
}

/// `"10.0.0.0/8"`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    text.parse::<IpNet>()
        .map(|network| network.trunc())
        .or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()))
        .map_err(|_| Wrong::new("is not a network", "write \"10.0.0.0/8\" or one address"))
}

/// `"example.com"` or `"*.example.com"`.
pub(super) fn host(text: &str) -> Result<HostPattern, Wrong> {
    let wrong = || {
        Wrong::new(
            "is not a host name",
            "write a name without scheme, port and path: \"example.com\", \"*.example.com\"",
        )
    };
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if let Some(rest) = name.strip_prefix("*.") {
        let suffix = is_host_name(rest).then(|| HostPattern::Suffix(format!(".{rest}").into()));
        return suffix.ok_or_else(wrong);
    }
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let address = bracketed.is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
    if address || is_host_name(name) {
        return Ok(HostPattern::Exact(name.into()));
    }
    Err(wrong())
}

fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// A method that a route can take: upper case, neither TRACE nor CONNECT.
pub(super) fn method(text: &str) -> Result<Method, Wrong> {
    if text.eq_ignore_ascii_case("trace") || text.eq_ignore_ascii_case("connect") {
        return Err(Wrong::new("is never served", "leave it out"));
    }
    let upper = text.to_ascii_uppercase();
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(_) => Err(Wrong::new("is not a method", format!("write \"{upper}\""))),
        Err(_) => Err(Wrong::new("is not a method", "write \"GET\", \"POST\", …")),
    }
}

/// A header's name.
pub(super) fn header_name(text: &str) -> Result<HeaderName, Wrong> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        Wrong::new(
            "is not a header name",
            "write letters, digits and hyphens: \"x-user-id\"",
        )
    })
}

/// A claim's path: members joined by dots.
pub(super) fn claim(text: &str) -> Result<ClaimPath, Wrong> {
    let members: Box<[Box<str>]> = text.split('.').map(Into::into).collect();
    if members.iter().any(|member| member.is_empty()) {
        return Err(Wrong::new(
            "is not the path of a claim",
            "write members joined by dots: \"app_metadata.roles\"",
        ));
    }
    Ok(ClaimPath(members))
}

/// Where a token may be.
pub(super) fn source(text: &str) -> Result<Source, Wrong> {
    match text.split_once(':') {
        None if text == "bearer" => Ok(Source::Bearer),
        None if text == "subprotocol" => Ok(Source::Subprotocol),
        Some(("header", name)) => source_header(name),
        Some(("query", name)) if is_plain(name) => Ok(Source::Query(name.into())),
        Some(("cookie", name)) if is_plain(name) => Ok(Source::Cookie(name.into())),
        _ => Err(Wrong::new(
            "is not a place for a token",
            "write \"bearer\", \"header:NAME\", \"query:NAME\", \"cookie:NAME\" or \"subprotocol\"",
        )),
    }
}

fn source_header(name: &str) -> Result<Source, Wrong> {
    let name = header_name(name)?;
    if name == http::header::AUTHORIZATION {
        return Err(Wrong::new(
            "names the header of bearer tokens",
            "write \"bearer\"",
        ));
    }
    if super::headers::is_reserved(&name) {
        return Err(Wrong::new(
            "names a header with a meaning of its own",
            "choose a header of your own: \"header:x-session-token\"",
        ));
    }
    Ok(Source::Header(name))
}

/// A name that stands in a query or a cookie as it is, with no escape and no second reading.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Any text.
pub(super) fn any(text: &str) -> Result<Box<str>, Wrong> {
    Ok(text.into())
}

/// A text that says something.
pub(super) fn filled(text: &str) -> Result<Box<str>, Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::new("is empty", "write a text, or leave the key out"));
    }
    Ok(text.into())
}

/// A name for logs, metrics and messages.
pub(super) fn name(text: &str) -> Result<Box<str>, Wrong> {
    let fits = (1..=64).contains(&text.len());
    if fits && is_plain(text) {
        return Ok(text.into());
    }
    Err(Wrong::new(
        "is not a name",
        "write 1 to 64 letters, digits, hyphens, dots and underscores",
    ))
}

/// Whether a URL names a password: `scheme://user:password@host`, or the option `pass` (Redis) or
/// `password` (PostgreSQL).
pub fn holds_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split('/').next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let names_one = |(_, password): (&str, &str)| !password.is_empty();
    user.and_then(|user| user.split_once(':'))
        .is_some_and(names_one)
        || options
            .split('&')
            .filter_map(|option| option.split_once('='))
            .filter(|(name, _)| ["pass", "password"].contains(name))
            .any(names_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        let millis = |text| duration(text).ok().map(|duration| duration.as_millis());
        for (text, expected) in [
            ("500ms", Some(500)),
            ("15s", Some(15_000)),
            ("5m", Some(300_000)),
            ("12h", Some(43_200_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("366d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("1.5s", None),
            ("-1s", None),
            ("+1s", None),
            ("15", None),
            ("s", None),
            ("15 s", None),
            ("15S", None),
            ("", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    #[test]
    fn passwords_stand_before_the_host_or_in_an_option() {
        for (url, expected) in [
            ("redis://me:hunter2@localhost/0", true),
            ("redis://:hunter2@localhost", true),
            ("redis://localhost?db=1&pass=hunter2", true),
            ("redis+unix:///run/redis.sock?pass=hunter2", true),
            ("postgres://localhost/a?user=me&password=hunter2", true),
            ("redis://me@localhost", false),
            ("redis://me:@localhost", false),
            ("redis://localhost?pass=", false),
            ("postgres://localhost/a?passfile=/a/b", false),
            ("postgres:///a@b:c", false),
            ("sqlite:gateway.db", false),
        ] {
            assert_eq!(holds_password(url), expected, "{url}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit() {
        for (text, expected) in [
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("10MiB", Some(10 << 20)),
            ("1GiB", Some(1 << 30)),
            ("1025GiB", None),
            ("18446744073709551615GiB", None),
            ("64KB", None),
            ("64", None),
            ("", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn listeners_hosts_and_sources_are_read() {
        let tcp = |text: &str| Some(Listen::Tcp(text.parse().unwrap()));
        assert_eq!(listen("localhost:80").ok(), tcp("127.0.0.1:80"));
        assert_eq!(listen("[::1]:0").ok(), tcp("[::1]:0"));
        assert_eq!(
            listen("unix:/run/a").ok(),
            Some(Listen::Unix("/run/a".into()))
        );
        let exact = |name: &str| Some(HostPattern::Exact(name.into()));
        assert_eq!(host("A.Example.").ok(), exact("a.example"));
        assert_eq!(host("[::1]").ok(), exact("[::1]"));
        let suffix = HostPattern::Suffix(".a.example".into());
        assert_eq!(host("*.a.example").ok(), Some(suffix));
        for wrong in ["", "*", "a..b", "-a", "a b", "a/b", "*.*.a", "[::g]"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert_eq!(source("query:t").ok(), Some(Source::Query("t".into())));
        for wrong in [
            "Bearer",
            "query:a&b",
            "query:a%20b",
            "cookie:",
            "header:te",
            "header:sec-websocket-key",
            "body:a",
        ] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }
}
