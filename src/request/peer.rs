//! Who connected: the address of the socket, and the client's address behind trusted proxies.

use std::net::IpAddr;

/// The other end of a downstream connection, as the socket tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; `None` for a unix socket.
    pub address: Option<IpAddr>,
    /// Whether it spoke TLS to us.
    pub secure: bool,
}
