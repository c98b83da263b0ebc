//! What the gateway itself says in the head of a request to an upstream: who forwarded it, who calls, and the request's id.
//! It stands behind the fields of the client, from which everything that could be taken for one of these is gone; no rule
//! of a route may name one (`config::headers`).

use std::fmt::Write;
use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::fields::write_line;
use crate::http1::lines::Lines;
use crate::observe::request_id::RequestId;
use crate::policy::AuthStatus;
use crate::request::head::Head;
use crate::request::host::Host;
use crate::request::peer::{self, Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

/// What is written into a request beside its identity.
#[derive(Clone, Copy)]
pub struct Stamp<'r> {
    /// The request's id.
    pub id: &'r RequestId,
    /// Who forwarded it, where no trusted proxy did before.
    pub forwarding: &'r Forwarding,
}

/// What is said of one request. Over HTTP/1.1 it is written as it is: eleven fields put into a map, and taken out again,
/// were an eighth of a request's instructions.
#[must_use = "nothing else says who calls"]
pub struct Tail<'r> {
    /// Who forwarded it, and for which host; `None`: a trusted proxy did, and the head says so.
    pub(super) way: Option<(&'r Forwarding, &'r HeaderValue)>,
    /// `None`: a guest.
    pub(super) caller: Option<&'r Lines>,
    pub(super) status: (&'r HeaderName, AuthStatus),
    pub(super) id: (&'r HeaderName, &'r RequestId),
}

impl Tail<'_> {
    /// Writes it as lines (RFC 9112 §5).
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some((forwarding, host)) = self.way {
            out.extend_from_slice(forwarding.0.as_bytes());
            write_line(out, X_FORWARDED_HOST.as_str(), host.as_bytes());
        }
        if let Some(caller) = self.caller {
            out.extend_from_slice(caller.as_bytes());
        }
        let ((status, word), (name, id)) = (self.status, self.id);
        write_line(out, status.as_str(), word.word().as_bytes());
        write_line(out, name.as_str(), id.as_str().as_bytes());
    }

    /// Puts it into a head, in the place of whatever has one of these names.
    pub fn put(&self, headers: &mut HeaderMap) {
        if let Some((forwarding, host)) = self.way {
            forwarding.put(headers);
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        if let Some(caller) = self.caller {
            caller.put(headers);
        }
        let ((status, word), (name, id)) = (self.status, self.id);
        headers.insert(status.clone(), HeaderValue::from_static(word.word()));
        headers.insert(name.clone(), id.header_value());
    }
}

/// `X-Forwarded-For`, `Forwarded` and `X-Forwarded-Proto`, rendered. Those of a connection that no trusted
/// proxy made are the same for all its requests: rendering them each time took a twentieth of a request.
#[derive(Clone, Debug)]
pub struct Forwarding(Lines);

impl Forwarding {
    /// For the requests of a connection.
    pub fn from_peer(peer: Peer) -> Self {
        Self::behind(&[], peer, peer.secure)
    }

    /// Behind these hops, farthest first.
    fn behind(hops: &[IpAddr], peer: Peer, secure: bool) -> Self {
        let address = peer.address.map(|address| address.to_canonical());
        let proto = if secure { "https" } else { "http" };
        let addresses = list(hops, address, push_plain);
        let nodes = list(hops, address, |text, address| {
            push_node(text, address, proto)
        });
        let named = |(name, text): (HeaderName, String)| {
            let value = HeaderValue::try_from(text).ok();
            Some((name, value.filter(|value| !value.is_empty())?))
        };
        let fields = [
            (X_FORWARDED_FOR, addresses),
            (FORWARDED, nodes),
            (X_FORWARDED_PROTO, proto.to_owned()),
        ];
        Self(fields.into_iter().filter_map(named).collect())
    }

    fn put(&self, headers: &mut HeaderMap) {
        headers.remove(X_FORWARDED_FOR);
        headers.remove(FORWARDED);
        self.0.put(headers);
    }
}

/// `X-Forwarded-*` and `Forwarded` behind what a trusted proxy wrote.
pub(super) fn set_forwarding(headers: &mut HeaderMap, head: &Head) {
    let hops = trusted_hops(headers, head);
    Forwarding::behind(&hops, head.peer(), head.client().secure).put(headers);
    if !names_one_host(headers) {
        headers.insert(X_FORWARDED_HOST, head.host().header().clone());
    }
}

/// The hops before the peer, as the proxies tell them; only the client, where they tell them in no way that
/// can be read.
fn trusted_hops(headers: &HeaderMap, head: &Head) -> Vec<IpAddr> {
    let told = peer::forwarded_for(headers).or_else(|| peer::forwarded_nodes(headers));
    // Contradicting headers made the peer itself the client: then nothing of them is passed on.
    let believed = told.filter(|_| head.client().address != head.peer().address);
    believed.unwrap_or_default()
}

fn names_one_host(headers: &HeaderMap) -> bool {
    let mut stated = headers.get_all(X_FORWARDED_HOST).iter();
    stated.next().is_some_and(|value| Host::read(value).is_ok()) && stated.next().is_none()
}

fn list(hops: &[IpAddr], last: Option<IpAddr>, push: impl Fn(&mut String, IpAddr)) -> String {
    let mut text = String::with_capacity(48);
    for address in hops.iter().copied().chain(last) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        push(&mut text, address);
    }
    text
}

fn push_plain(text: &mut String, address: IpAddr) {
    // Writing to a String does not fail.
    let _ = write!(text, "{address}");
}

/// One hop of `Forwarded` (RFC 7239 §4); IPv6 stands in brackets and quotes. The scheme is the first hop's.
fn push_node(text: &mut String, address: IpAddr, proto: &str) {
    let is_client = text.is_empty();
    let _ = match address {
        IpAddr::V4(address) => write!(text, "for={address}"),
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    if is_client {
        let _ = write!(text, ";proto={proto}");
    }
}
