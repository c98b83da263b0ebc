//! The change of protocol on both sides: what the upstream is asked, what the client is answered, and the
//! tunnel that runs once both connections have let go of HTTP.

use std::pin::Pin;

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::body::Body;
use crate::downstream::{Claim, Switched};
use crate::forward::websocket::refuse;
use crate::forward::websocket::tap::Tapped;
use crate::forward::websocket::tunnel::{Part, Report, Side, tunnel};
use crate::jobs::watch::Watch;
use crate::journal::Journal;
use crate::limits::Lease;
use crate::request::upgrade::{Handshake, Upgrade};
use crate::streams::{Membership, Outcome};
use crate::wire::Wire;

/// Two connections that are about to become one tunnel.
pub struct Switch {
    /// The client's.
    pub downstream: Claim,
    /// The service's.
    pub upstream: Side<Wire>,
    /// The stream's place in the registry.
    pub membership: Membership,
    /// What the gateway adds; `None`: a protocol that it does not know, so nothing.
    pub part: Option<Part>,
    /// Its place among its caller's streams, given back when it ends; `None`: any number may.
    pub lease: Option<Lease>,
    /// Who listens to the upstream's messages for jobs.
    pub watch: Option<Box<Watch>>,
}

/// Writes the wish to switch into a request that goes upstream over HTTP/1.1.
///
/// An extended CONNECT (RFC 8441) becomes the handshake of RFC 6455, with a key of its own: HTTP/2 has none.
pub fn ask(request: &mut Request<Body>, upgrade: &Upgrade) {
    let Some(token) = token(upgrade) else {
        return;
    };
    let over_http2 = matches!(upgrade, Upgrade::Websocket(Handshake::Http2));
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, token);
    if over_http2 {
        let key = tokio_tungstenite::tungstenite::handshake::client::generate_key();
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(http::header::SEC_WEBSOCKET_KEY, key);
        }
        headers.insert(
            http::header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        *request.method_mut() = Method::GET;
    }
}

/// The `Upgrade` field for it.
fn token(upgrade: &Upgrade) -> Option<HeaderValue> {
    match upgrade {
        Upgrade::None => None,
        Upgrade::Websocket(_) => Some(HeaderValue::from_static("websocket")),
        Upgrade::Other(token) => HeaderValue::from_str(token).ok(),
    }
}

/// What the client is told of the upstream's 101: the same over HTTP/1.1, and 200 without the fields of a
/// switch over HTTP/2 (RFC 8441 §5).
pub fn answer<B>(upstream: Response<B>, upgrade: &Upgrade, bearer_offered: bool) -> Response<Body> {
    let (mut head, _) = upstream.into_parts();
    if bearer_offered && !head.headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        // A browser that offered subprotocols fails without an answer.
        head.headers
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("bearer"));
    }
    head.extensions.clear();
    if matches!(upgrade, Upgrade::Websocket(Handshake::Http2)) {
        head.status = StatusCode::OK;
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    } else if let Some(token) = token(upgrade) {
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, token);
    }
    Response::from_parts(head, Body::Empty)
}

impl Switch {
    /// Runs the tunnel to its end, and tells the journal; `place` is given up then.
    ///
    /// What is needed only until the tunnel stands is in a box of its own, which is gone by then: a task keeps room for
    /// all that it ever holds, and most tunnels are silent for most of their lives.
    pub fn run<P>(self: Box<Self>, mut journal: Journal, place: P) -> impl Future<Output = ()> {
        let begun = Box::pin(self.begin());
        async move {
            let Some((carrying, lease, over)) = begun.await else {
                journal.ending().set(Some("handshake_failed"));
                return;
            };
            if let Over::Socket = over {
                journal.leave_connection();
            }
            let report = carrying.await;
            drop(lease);
            journal.tunnelled(
                report.outcome.word(),
                report.from_client,
                report.from_upstream,
            );
            drop(place);
        }
    }

    /// Waits for the client's connection; `None`: it has ended before.
    async fn begin(self: Box<Self>) -> Option<(Carrying, Option<Lease>, Over)> {
        let Switch {
            downstream,
            upstream,
            membership,
            part,
            lease,
            watch,
        } = *self;
        let upstream = (upstream, watch);
        let (carrying, over) = match downstream.switched().await? {
            Switched::Socket(io, early) => {
                let client = Side { io, early };
                (listen(client, upstream, membership, part), Over::Socket)
            }
            Switched::Stream(io) => {
                let early = Bytes::new();
                let client = Side { io, early };
                (listen(client, upstream, membership, part), Over::Stream)
            }
        };
        Some((carrying, lease, over))
    }
}

/// A tunnel that stands.
type Carrying = Pin<Box<dyn Future<Output = Report>>>;

/// What its client's side is.
#[derive(Clone, Copy)]
enum Over {
    /// A connection, which speaks HTTP no more.
    Socket,
    /// A stream of a connection that goes on.
    Stream,
}

/// Carries, and listens where somebody does.
fn listen<C>(
    client: Side<C>,
    (upstream, watch): (Side<Wire>, Option<Box<Watch>>),
    membership: Membership,
    part: Option<Part>,
) -> Carrying
where
    C: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match watch {
        None => carry(client, upstream, membership, part),
        Some(watch) => carry(client, Tapped::listen(upstream, watch), membership, part),
    }
}

fn carry<C, U>(
    client: Side<C>,
    upstream: Side<U>,
    mut membership: Membership,
    part: Option<Part>,
) -> Carrying
where
    C: AsyncRead + AsyncWrite + Unpin + 'static,
    U: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // Boxed as it is: another future around it would keep room for it twice.
    match part {
        Some(part) => Box::pin(tunnel(client, upstream, membership, part)),
        None => Box::pin(async move {
            tokio::select! {
                copied = copy(client, upstream) => copied,
                end = membership.ended() => Report {
                    outcome: Outcome::Told(end),
                    from_client: 0,
                    from_upstream: 0,
                },
            }
        }),
    }
}

/// Copies a protocol that the gateway does not know, both ways, until both sides have ended.
async fn copy<C, U>(mut client: Side<C>, mut upstream: Side<U>) -> Report
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let early = async {
        upstream.io.write_all(&client.early).await?;
        client.io.write_all(&upstream.early).await?;
        tokio::io::copy_bidirectional(&mut client.io, &mut upstream.io).await
    };
    let (outcome, (from_client, from_upstream)) = match early.await {
        Ok(copied) => (Outcome::Finished, copied),
        Err(_) => (Outcome::Broken, (0, 0)),
    };
    Report {
        outcome,
        from_client,
        from_upstream,
    }
}

/// Says no over an accepted handshake.
pub async fn refuse_over(client: Claim, body: String, code: u16, word: &'static str) {
    let reason = refuse::Reason {
        body: &body,
        code,
        word,
    };
    match client.switched().await {
        // What the client has said already is thrown away like all that it says.
        Some(Switched::Socket(io, _)) => refuse::refuse(io, reason).await,
        Some(Switched::Stream(io)) => refuse::refuse(io, reason).await,
        None => {}
    }
}
