//! What a request may ask of the connection that it came over, beside its one answer: to be told something
//! before it, and to become another protocol behind it.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use crate::http1::link::{Handed, Link};
use crate::http2::stream::Stream;
use crate::http2::tunnel::Tunnel;
use crate::wire::Wire;

/// A request's connection.
#[derive(Clone)]
pub enum Downstream {
    /// Over HTTP/1.1, the connection itself.
    Http1(Rc<Link>),
    /// Over HTTP/2, its stream.
    Http2(Rc<Stream>),
}

/// The way to tell a client something before the answer.
pub struct Hints(Downstream);

impl Hints {
    /// Sends an interim answer (RFC 9110 §15.2), if the client can read one and the final has not begun.
    pub fn give(&self, status: StatusCode, headers: HeaderMap) {
        match &self.0 {
            Downstream::Http1(link) => link.inform(status, &headers),
            Downstream::Http2(stream) => stream.inform(status, headers),
        }
    }
}

/// A connection that will be had.
pub enum Claim {
    /// The socket.
    Socket(oneshot::Receiver<Handed>),
    /// A stream of an HTTP/2 connection.
    Stream(oneshot::Receiver<Tunnel>),
}

/// A connection that speaks another protocol from here on.
pub enum Switched {
    /// The socket, and what the client sent behind its request.
    Socket(Wire, Bytes),
    /// A stream of an HTTP/2 connection.
    Stream(Tunnel),
}

impl Downstream {
    /// To tell the client something before the answer.
    pub fn hints(&self) -> Hints {
        Hints(self.clone())
    }

    /// Asks for the connection, before the head of the switch is sent.
    pub fn claim(self) -> Claim {
        match self {
            Self::Http1(link) => Claim::Socket(link.claim()),
            Self::Http2(stream) => Claim::Stream(stream.claim()),
        }
    }
}

impl Claim {
    /// The connection, once the head of the switch has been sent; `None`: it has ended before.
    pub async fn switched(self) -> Option<Switched> {
        match self {
            Self::Socket(claim) => {
                let Handed { wire, early } = claim.await.ok()?;
                Some(Switched::Socket(wire, early))
            }
            Self::Stream(claim) => Some(Switched::Stream(claim.await.ok()?)),
        }
    }
}
