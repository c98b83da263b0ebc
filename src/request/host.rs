//! The name that the client asked for: one valid host, in lower case, with no trailing dot, its port apart
//! (RFC 9110 §7.2, RFC 9112 §3.2), and the list of names that are served.

use std::net::Ipv6Addr;

use http::HeaderValue;

use crate::config::HostPattern;
use crate::refusal::Refusal;

/// The host of a request, as it is matched and as it is forwarded.
#[derive(Clone, Debug)]
pub struct Host {
    value: HeaderValue,
    name_len: usize,
    port: Option<u16>,
}

impl Host {
    /// Reads `name[:port]`. Refuses lists, userinfo, spaces, paths, empty labels and odd ports.
    pub fn read(value: &HeaderValue) -> Result<Self, Refusal> {
        let text = value.to_str().map_err(|_| Refusal::HostInvalid)?;
        let (name, port_text) = split_port(text)?;
        let port = port_text.map(read_port).transpose()?;
        let bare = name.strip_suffix('.').unwrap_or(name);
        if !bare.starts_with('[') {
            check_name(bare)?;
        }
        let normal =
            bare.len() == name.len() && !bare.bytes().any(|byte| byte.is_ascii_uppercase());
        let value = if normal {
            value.clone()
        } else {
            let mut text = bare.to_ascii_lowercase();
            if let Some(port_text) = port_text {
                text.push(':');
                text.push_str(port_text);
            }
            HeaderValue::try_from(text).map_err(|_| Refusal::HostInvalid)?
        };
        Ok(Self {
            value,
            name_len: bare.len(),
            port,
        })
    }

    /// The name alone: lower case, no trailing dot, no port; an IPv6 address keeps its brackets.
    pub fn name(&self) -> &str {
        self.as_str().get(..self.name_len).unwrap_or_default()
    }

    /// The port, where one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Name and port, as a `Host` header.
    pub fn header(&self) -> &HeaderValue {
        &self.value
    }

    /// Name and port.
    pub fn as_str(&self) -> &str {
        // `read` has seen that it is ASCII.
        self.value.to_str().unwrap_or_default()
    }
}

/// The names that are served; any, where none is listed.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<HostPattern>);

impl Hosts {
    /// Compiles `[server] hosts`.
    pub fn build(patterns: &[HostPattern]) -> Self {
        Self(patterns.to_vec())
    }

    /// Whether `name` is served.
    pub fn serves(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| matches(pattern, name))
    }
}

/// Whether a pattern matches a host's name; `*.` stands for one label.
pub fn matches(pattern: &HostPattern, name: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => **exact == *name,
        HostPattern::Suffix(suffix) => after_first_label(name) == Some(&**suffix),
    }
}

/// What follows the first label, with its dot: `.example.com` of `a.example.com`.
pub fn after_first_label(name: &str) -> Option<&str> {
    name.find('.')
        .filter(|&dot| dot > 0)
        .map(|dot| &name[dot..])
}

/// Name and port; a literal IPv6 address is checked here.
fn split_port(text: &str) -> Result<(&str, Option<&str>), Refusal> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(Refusal::HostInvalid)?;
        let (name, rest) = text.split_at(end + 1);
        name[1..end]
            .parse::<Ipv6Addr>()
            .map_err(|_| Refusal::HostInvalid)?;
        return match (rest.is_empty(), rest.strip_prefix(':')) {
            (true, _) => Ok((name, None)),
            (false, Some(port)) => Ok((name, Some(port))),
            (false, None) => Err(Refusal::HostInvalid),
        };
    }
    Ok(match memchr::memchr(b':', text.as_bytes()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    })
}

/// One to five digits, in the only way to write them.
fn read_port(text: &str) -> Result<u16, Refusal> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return Err(Refusal::HostInvalid);
    }
    text.parse().map_err(|_| Refusal::HostInvalid)
}

/// Letters, digits, `-` and `_` in labels that are not empty.
fn check_name(name: &str) -> Result<(), Refusal> {
    // How many bytes its label has so far; a loop of our own, since every request comes by here.
    let mut label = 0;
    for byte in name.bytes() {
        label = match byte {
            b'.' if label > 0 => 0,
            b'-' | b'_' if label < 63 => label + 1,
            _ if byte.is_ascii_alphanumeric() && label < 63 => label + 1,
            _ => return Err(Refusal::HostInvalid),
        };
    }
    if name.len() <= 253 && label > 0 {
        Ok(())
    } else {
        Err(Refusal::HostInvalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Host, Refusal> {
        Host::read(&HeaderValue::from_bytes(text.as_bytes()).unwrap())
    }

    #[test]
    fn case_and_the_trailing_dot_do_not_count() {
        for (text, name, port, header) in [
            ("example.com", "example.com", None, "example.com"),
            ("EXAMPLE.com.", "example.com", None, "example.com"),
            (
                "Example.Com.:8080",
                "example.com",
                Some(8080),
                "example.com:8080",
            ),
            ("localhost:80", "localhost", Some(80), "localhost:80"),
            ("127.0.0.1:9", "127.0.0.1", Some(9), "127.0.0.1:9"),
            ("[::1]", "[::1]", None, "[::1]"),
            (
                "[2001:DB8::1]:443",
                "[2001:db8::1]",
                Some(443),
                "[2001:db8::1]:443",
            ),
            ("a_b-c.d", "a_b-c.d", None, "a_b-c.d"),
        ] {
            let host = read(text).unwrap();
            assert_eq!(
                (host.name(), host.port(), host.as_str()),
                (name, port, header),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_single_host_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            "a b",
            "a,b",
            "a, b",
            "user@a",
            "user:pw@a",
            "a/b",
            "a:",
            "a:x",
            "a:0",
            "a:080",
            "a:65536",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a?b",
            "a#b",
            "a%2eb",
            "a\\b",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[x]",
            "[]",
            "[::1].",
            "::1",
            "a;b",
            "a\tb",
            "\u{e9}.com",
            "*",
            "*.a",
        ] {
            assert_eq!(read(text).err(), Some(Refusal::HostInvalid), "{text:?}");
        }
        assert!(read(&"a".repeat(64)).is_err());
        assert!(read(&format!("{}a", "a.".repeat(127))).is_err());
    }

    #[test]
    fn a_star_is_one_label() {
        let hosts = Hosts::build(&[
            HostPattern::Exact("example.com".into()),
            HostPattern::Suffix(".example.org".into()),
        ]);
        for (name, served) in [
            ("example.com", true),
            ("a.example.com", false),
            ("a.example.org", true),
            ("a.b.example.org", false),
            ("example.org", false),
            (".example.org", false),
            ("aexample.org", false),
        ] {
            assert_eq!(hosts.serves(name), served, "{name}");
        }
        assert!(Hosts::default().serves("anything"));
    }
}
