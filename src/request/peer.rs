//! Who connected: the address of the socket, and the client's address behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// The other end of a downstream connection, as the socket tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; `None` for a unix socket.
    pub address: Option<IpAddr>,
    /// Whether it spoke TLS to us.
    pub secure: bool,
}

/// Who is behind the peer, as far as the peer may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address; `None` on a unix socket.
    pub address: Option<IpAddr>,
    /// Whether the client spoke TLS.
    pub secure: bool,
    /// Whether the peer is a trusted proxy, so that its forwarding headers are passed on.
    pub trusted: bool,
}

/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

impl Client {
    /// The peer itself, unless it is a trusted proxy that names another client.
    pub fn find(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let believed = peer
            .address
            .is_some_and(|address| is_trusted(address, trusted));
        if !believed {
            return Self {
                address: peer.address,
                secure: peer.secure,
                trusted: false,
            };
        }
        Self {
            address: client_address(headers, trusted).or(peer.address),
            secure: scheme(headers).unwrap_or(peer.secure),
            trusted: true,
        }
    }
}

/// Whether the address, an IPv4-mapped one included, is in one of the networks.
fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The client that both kinds of header agree upon. A proxy that writes one kind passes the other on as the
/// client wrote it, so that a contradiction is a forgery and neither is believed.
fn client_address(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let legacy = headers
        .contains_key(X_FORWARDED_FOR)
        .then(|| first_untrusted(forwarded_for(headers)?, trusted));
    let standard = headers
        .contains_key(FORWARDED)
        .then(|| first_untrusted(forwarded_nodes(headers)?, trusted));
    match (legacy, standard) {
        (Some(one), Some(other)) if one != other => None,
        (Some(address), _) | (None, Some(address)) => address,
        (None, None) => None,
    }
}

/// From the nearest hop outwards: the first that is no trusted proxy; the farthest where all are.
fn first_untrusted(chain: Vec<IpAddr>, trusted: &[IpNet]) -> Option<IpAddr> {
    chain
        .iter()
        .rev()
        .find(|address| !is_trusted(**address, trusted))
        .or(chain.first())
        .copied()
}

/// Every address of `X-Forwarded-For`, farthest first; `None` if one of them is none.
pub fn forwarded_for(headers: &HeaderMap) -> Option<Vec<IpAddr>> {
    elements(headers, &X_FORWARDED_FOR)?
        .into_iter()
        .map(read_node)
        .collect()
}

/// Every `for=` of `Forwarded` (RFC 7239 §4), farthest first; `None` if one is missing or no address.
pub fn forwarded_nodes(headers: &HeaderMap) -> Option<Vec<IpAddr>> {
    elements(headers, &FORWARDED)?
        .into_iter()
        .map(|element| read_node(parameter(element, "for")?))
        .collect()
}

/// What a trusted proxy says of the client's scheme: from the one or the other header, where it has one value.
fn scheme(headers: &HeaderMap) -> Option<bool> {
    let stated = match elements(headers, &X_FORWARDED_PROTO) {
        Some(protos) => match protos[..] {
            [proto] => Some(proto),
            _ => None,
        },
        None => elements(headers, &FORWARDED)?
            .last()
            .and_then(|element| parameter(element, "proto")),
    }?;
    match () {
        () if stated.eq_ignore_ascii_case("https") => Some(true),
        () if stated.eq_ignore_ascii_case("http") => Some(false),
        () => None,
    }
}

/// The elements of a list header over all its lines; `None` if it is missing or not text.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Vec<&'a str>> {
    let lines = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::to_str)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let elements: Vec<_> = lines
        .iter()
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    (!elements.is_empty()).then_some(elements)
}

/// A parameter of one `Forwarded` element, without quotes.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().trim_matches('"'))
}

/// An address, with or without a port.
fn read_node(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(headers: &[(&'static str, &'static str)]) -> Client {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let peer = Peer {
            address: Some("10.0.0.1".parse().unwrap()),
            secure: false,
        };
        Client::find(peer, &headers, &trusted)
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let headers =
            HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"))]);
        for address in [Some("192.0.2.1".parse().unwrap()), None] {
            let peer = Peer {
                address,
                secure: true,
            };
            let client = Client::find(peer, &headers, &["10.0.0.0/8".parse().unwrap()]);
            assert_eq!(
                (client.address, client.secure, client.trusted),
                (address, true, false)
            );
        }
    }

    #[test]
    fn the_client_is_the_nearest_hop_that_is_not_trusted() {
        for (headers, client) in [
            (&[("x-forwarded-for", "1.2.3.4")][..], "1.2.3.4"),
            (
                &[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.9.9.9")],
                "1.2.3.4",
            ),
            (
                &[
                    ("x-forwarded-for", "6.6.6.6"),
                    ("x-forwarded-for", "1.2.3.4"),
                ],
                "1.2.3.4",
            ),
            (&[("x-forwarded-for", "10.3.3.3, 10.2.2.2")], "10.3.3.3"),
            (&[("x-forwarded-for", "1.2.3.4:555")], "1.2.3.4"),
            (&[("x-forwarded-for", "[2001:db8::1]:9")], "2001:db8::1"),
            (
                &[(
                    "forwarded",
                    "for=6.6.6.6, For=\"[2001:db8::2]\";proto=https",
                )],
                "2001:db8::2",
            ),
            // What cannot be read changes nothing.
            (&[("x-forwarded-for", "1.2.3.4, unknown")], "10.0.0.1"),
            (&[("x-forwarded-for", "")], "10.0.0.1"),
            (&[("x-forwarded-for", "1.2.3.4,")], "10.0.0.1"),
            (&[("forwarded", "for=_hidden")], "10.0.0.1"),
            (&[("forwarded", "proto=https")], "10.0.0.1"),
            (
                &[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=6.6.6.6")],
                "10.0.0.1",
            ),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(find(headers).address, client.parse().ok(), "{headers:?}");
        }
    }

    #[test]
    fn the_scheme_is_one_clear_word_or_the_sockets() {
        for (headers, secure) in [
            (&[("x-forwarded-proto", "https")][..], true),
            (&[("x-forwarded-proto", "http")], false),
            (&[("x-forwarded-proto", "https, http")], false),
            (&[("x-forwarded-proto", "gopher")], false),
            (&[("forwarded", "for=1.2.3.4;proto=https")], true),
        ] {
            assert_eq!(find(headers).secure, secure, "{headers:?}");
        }
    }
}
