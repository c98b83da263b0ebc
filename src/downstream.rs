//! What a request may ask of the connection that it came over, beside its one answer: to be told something
//! before it, and to become another protocol behind it.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::http1::link::{Handed, Link};
use crate::wire::Wire;

/// A request's connection.
pub enum Downstream {
    /// Over HTTP/1.1, the connection itself.
    Http1(Rc<Link>),
    /// Over HTTP/2, the stream of an extended CONNECT (RFC 8441).
    Http2(OnUpgrade),
}

/// The way to tell a client something before the answer.
pub struct Hints(Rc<Link>);

impl Hints {
    /// Sends an interim answer (RFC 9110 §15.2), if the client can read one and the final has not begun.
    pub fn give(&self, status: StatusCode, headers: &HeaderMap) {
        self.0.inform(status, headers);
    }
}

/// A connection that will be had.
pub enum Claim {
    /// The socket.
    Socket(oneshot::Receiver<Handed>),
    /// A stream of an HTTP/2 connection.
    Stream(OnUpgrade),
}

/// A connection that speaks another protocol from here on.
pub enum Switched {
    /// The socket, and what the client sent behind its request.
    Socket(Wire, Bytes),
    /// A stream of an HTTP/2 connection.
    Stream(TokioIo<Upgraded>),
}

impl Downstream {
    /// To tell the client something before the answer; `None`: hyper cannot send that over HTTP/2.
    pub fn hints(&self) -> Option<Hints> {
        match self {
            Self::Http1(link) => Some(Hints(Rc::clone(link))),
            Self::Http2(_) => None,
        }
    }

    /// Asks for the connection, before the head of the switch is sent.
    pub fn claim(self) -> Claim {
        match self {
            Self::Http1(link) => Claim::Socket(link.claim()),
            Self::Http2(upgrade) => Claim::Stream(upgrade),
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
            Self::Stream(upgrade) => Some(Switched::Stream(TokioIo::new(upgrade.await.ok()?))),
        }
    }
}
