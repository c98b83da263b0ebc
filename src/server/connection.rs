//! One downstream connection: which HTTP it speaks, how long it may be silent, and how it drains.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::forward::headers::Forwarding;
use crate::gate::Conn;
use crate::http1::link::Link;
use crate::request::peer::Peer;
use crate::server::Worker;
use crate::server::http1::Session;
use crate::server::http2;
use crate::wire::vitals::{Verdict, Vitals, Watched};
use crate::wire::{Wire, give_up_after};

/// What a connection speaks.
enum Spoken {
    Http1,
    Http2,
}

/// A connection of which it is known what it speaks.
struct Opened {
    wire: Wire,
    spoken: Spoken,
    /// What was read of it to know that.
    ahead: Bytes,
}

/// Serves a TCP connection until it ends, TLS and protocol choice included.
pub async fn serve_tcp(worker: Rc<Worker>, socket: TcpStream) {
    let Ok(address) = socket.peer_addr() else {
        return;
    };
    // One small write must not wait for the client's acknowledgement of the last.
    let _ = socket.set_nodelay(true);
    let tls = worker.station.tls.load_full();
    let patience = worker.patience();
    give_up_after(&socket, patience.send);
    // Boxed: a handshake is large, and over when the rest of the connection's life begins.
    let opened = Box::pin(tokio::time::timeout(patience.head, async {
        match &tls {
            Some(config) => accept_tls(Arc::clone(config), socket).await,
            None => prior_knowledge(socket).await,
        }
    }));
    let mut drain = worker.drain.clone();
    let opened = tokio::select! {
        biased;
        opened = opened => opened,
        // A connection that has said nothing yet must not keep the gateway from ending.
        _ = drain.wait_for(|draining| *draining) => return,
    };
    drop(drain);
    let Ok(Some(opened)) = opened else {
        return;
    };
    let peer = Peer {
        address: Some(address.ip().to_canonical()),
        secure: tls.is_some(),
    };
    serve(worker, opened, peer).await;
}

/// Serves a connection over a unix socket: HTTP/1.1, from nobody in particular.
pub async fn serve_unix(worker: Rc<Worker>, socket: tokio::net::UnixStream) {
    let peer = Peer {
        address: None,
        secure: false,
    };
    let opened = Opened {
        wire: Wire::Unix(socket),
        spoken: Spoken::Http1,
        ahead: Bytes::new(),
    };
    serve(worker, opened, peer).await;
}

async fn accept_tls(config: Arc<rustls::ServerConfig>, socket: TcpStream) -> Option<Opened> {
    let stream = TlsAcceptor::from(config).accept(socket).await.ok()?;
    let spoken = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Spoken::Http2,
        _ => Spoken::Http1,
    };
    Some(Opened {
        wire: Wire::Tls(Box::new(stream.into())),
        spoken,
        ahead: Bytes::new(),
    })
}

/// Tells HTTP/2 with prior knowledge (RFC 9113 §3.3) from HTTP/1.1 by the first bytes, which come back with it.
async fn prior_knowledge(mut socket: TcpStream) -> Option<Opened> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    let mut first = [0; PREFACE.len()];
    let mut seen = 0;
    let spoken = loop {
        match socket.read(&mut first[seen..]).await.ok()? {
            0 => return None,
            read => seen += read,
        }
        match &first[..seen] {
            PREFACE => break Spoken::Http2,
            start if PREFACE.starts_with(start) => {}
            _ => break Spoken::Http1,
        }
    };
    Some(Opened {
        wire: Wire::Tcp(socket),
        spoken,
        ahead: Bytes::copy_from_slice(&first[..seen]),
    })
}

async fn serve(worker: Rc<Worker>, opened: Opened, peer: Peer) {
    let bed = worker.ward.admit();
    if *worker.drain.borrow() {
        return;
    }
    let Opened {
        wire,
        spoken,
        ahead,
    } = opened;
    let wire = Watched::new(wire, Rc::clone(&bed.vitals)).behind(ahead);
    let conn = Conn {
        desk: Rc::clone(&worker.desk),
        peer,
        forwarding: Forwarding::from_peer(peer),
    };
    match spoken {
        Spoken::Http1 => {
            let link = Link::new(wire);
            let session = Session {
                worker,
                conn: Rc::new(conn),
                link,
                vitals: Rc::clone(&bed.vitals),
            };
            // It drains by itself.
            drive(pin!(session.serve()), |_| (), &bed.vitals).await;
        }
        Spoken::Http2 => Box::pin(http2::serve(worker, wire, conn, &bed.vitals)).await,
    }
}

/// Runs a connection to its end: the client's, the ward's, or the drain's.
pub async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    close: impl Fn(Pin<&mut C>),
    vitals: &Vitals,
) {
    let (mut listens, mut draining) = (false, false);
    poll_fn(|cx| {
        if !listens {
            vitals.listen(cx);
            listens = true;
        }
        if vitals.verdict() == Verdict::Drain && !draining {
            draining = true;
            close(connection.as_mut());
        }
        // Errors here are the client's: it left, or spoke no HTTP. What can be answered has been.
        match connection.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending if vitals.verdict() == Verdict::Dead => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}
