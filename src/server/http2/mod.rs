//! HTTP/2 towards clients (RFC 9113), by the `h2` crate: it has the frames, the windows and the bounds on floods. Here
//! is a connection: it takes streams in, asks a silent client whether it is there, and drains. `exchange.rs` is one
//! stream, from its request to its last byte; `answer.rs` sends answers.

mod answer;
mod exchange;
mod patience;

#[cfg(test)]
mod tests;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;

use crate::body::Body;
use crate::config;
use crate::downstream::Downstream;
use crate::gate::Conn;
use crate::http2::gathered::{Gathered, Outlet, gather};
use crate::http2::pings::Pings;
use crate::http2::stream::{Stream, Unsent};
use crate::http2::{receiving, upload};
use crate::server::Worker;
use crate::server::clerks::Order;
use crate::server::connection::drive;
use crate::server::http2::exchange::{Asks, Exchange};
use crate::server::http2::patience::Patience;
use crate::wire::vitals::{Vitals, Watched};

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, wire: Watched, conn: Conn, vitals: &Rc<Vitals>) {
    vitals.set_multiplexed();
    let (wire, outlet) = gather(wire);
    let handshake = settings(worker.gate().server()).handshake(wire);
    let session = Session {
        worker,
        conn: Rc::new(conn),
        vitals: Rc::clone(vitals),
        unsent: Rc::default(),
        outlet,
        phase: Phase::Opening(Box::new(handshake)),
        drains: false,
    };
    drive(pin!(session), |session| session.get_mut().drain(), vitals).await;
}

fn settings(server: &config::Server) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(MOST_HELD)
        .max_concurrent_streams(server.max_concurrent_streams)
        .max_header_list_size(u32::try_from(server.max_header_bytes).unwrap_or(u32::MAX))
        // Rapid reset and made-you-reset (CVE-2023-44487, CVE-2025-8671).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(64));
    if server.http2_websocket {
        builder.enable_connect_protocol();
    }
    builder
}

/// A connection.
struct Session {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    vitals: Rc<Vitals>,
    unsent: Rc<Unsent>,
    outlet: Outlet<Watched>,
    phase: Phase,
    drains: bool,
}

enum Phase {
    /// Until the client's preface is here.
    Opening(Box<Handshake<Gathered<Watched>, Bytes>>),
    Open(Box<Open>),
}

struct Open {
    connection: Connection<Gathered<Watched>, Bytes>,
    /// `None`: the client has been given up.
    pings: Option<Pings>,
}

impl Session {
    /// Tells the client to open no more streams; those that it has go on.
    fn drain(&mut self) {
        self.drains = true;
        if let Phase::Open(open) = &mut self.phase {
            open.connection.graceful_shutdown();
        }
    }

    /// Takes a stream in and has it run.
    fn begin(&self, request: Request<RecvStream>, mut reply: SendResponse<Bytes>) {
        let (head, receive) = request.into_parts();
        let asks = Asks::of(&head.method);
        if asks == Asks::Tunnel && receiving::stated_length(&head.headers).is_some_and(|it| it > 0)
        {
            // What follows is the tunnel's, and has no length.
            reply.send_reset(Reason::PROTOCOL_ERROR);
            return;
        }
        let unsent = Rc::clone(&self.unsent);
        let (stream, body) = match asks {
            Asks::Tunnel => (Stream::new(reply, Some(receive), unsent), Body::Empty),
            Asks::Head | Asks::Body => {
                let stream = Stream::new(reply, None, unsent);
                let body = upload::body(receive, &head.headers, &stream);
                (stream, body)
            }
        };
        let gate = self.worker.gate();
        let patience = Patience::of(gate.server());
        let handled = self.worker.clerks.handle(Order {
            gate,
            conn: Rc::clone(&self.conn),
            request: Request::from_parts(head, body),
            downstream: Downstream::Http2(Rc::clone(&stream)),
            busy: self.vitals.begin(),
        });
        let clock = self.worker.station.resources.clock.clone();
        let exchange = Exchange::new(stream, asks, handled, clock, patience);
        tokio::task::spawn_local(exchange);
    }

    /// Takes in all streams that have come, and has h2 write what there is to write.
    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.phase {
                Phase::Opening(handshake) => {
                    let Ok(mut connection) = ready!(Pin::new(handshake).poll(cx)) else {
                        return Poll::Ready(());
                    };
                    if self.drains {
                        connection.graceful_shutdown();
                    }
                    let pings = connection
                        .ping_pong()
                        .map(|pings| Pings::new(pings, SILENCE));
                    self.phase = Phase::Open(Box::new(Open { connection, pings }));
                }
                Phase::Open(open) => match ready!(open.poll(cx, &self.vitals)) {
                    Some((request, reply)) => self.begin(request, reply),
                    None => return Poll::Ready(()),
                },
            }
        }
    }
}

impl Future for Session {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let over = self.poll_streams(cx);
        match self.outlet.poll_out(cx) {
            Poll::Ready(Ok(())) => self.unsent.clear(),
            // h2 would learn of it when it writes again.
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => {}
        }
        over
    }
}

impl Open {
    /// The next stream; `None`: the connection is over. What is wrong with it is the client's fault, which h2 has told it.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        vitals: &Vitals,
    ) -> Poll<Option<(Request<RecvStream>, SendResponse<Bytes>)>> {
        if let Some(pings) = &mut self.pings
            && pings
                .poll_given_up(cx, || Some(vitals.silence()))
                .is_ready()
        {
            self.pings = None;
            self.connection.abrupt_shutdown(Reason::NO_ERROR);
        }
        let polled = self.connection.poll_accept(cx);
        polled.map(|accepted| accepted?.ok())
    }
}

/// What a client may send before we have taken it, for one stream and for all of a connection.
const WINDOW: u32 = 1024 * 1024;
/// What is held of one answer for a client that has opened a window as large.
const MOST_HELD: usize = 400 * 1024;
/// How long a client may be silent before it is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);
