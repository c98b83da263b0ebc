//! Streams over in-memory pipes, and pings on paused time.

use std::future::{pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::Instant;

use super::exchange::{Asks, Exchange};
use super::patience::Patience;
use super::{Open, SILENCE};
use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::http2::gathered::{Outlet, gather};
use crate::http2::pings::Pings;
use crate::http2::stream::{Stream, Unsent};
use crate::wire::Wire;
use crate::wire::vitals::{self, Bed, Ward, Watched};

const PATIENCE: Patience = Patience {
    timeout: Duration::from_secs(60),
    rate: 100,
};

/// An answer as its client sees it.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    /// What was read of the body, and how it ended where not well.
    body: String,
    trailers: Option<HeaderMap>,
    error: Option<Reason>,
}

/// Answers the streams of a connection; the claimed ones are given to nobody.
async fn serve(io: tokio::io::DuplexStream, response: Response<Body>, claimed: bool) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    let mut response = Some(response);
    while let Some(accepted) = connection.accept().await {
        let (request, reply) = accepted.unwrap();
        let asks = Asks::of(request.method());
        let behind = (asks == Asks::Tunnel).then(|| request.into_body());
        let stream = Stream::new(reply, behind, Rc::<Unsent>::default());
        let claim = claimed.then(|| stream.claim());
        let handled = ready(response.take().unwrap());
        let exchange = Exchange::new(stream, asks, handled, Clock::System, PATIENCE);
        spawn_local(async move {
            exchange.await;
            let Some(claim) = claim else { return };
            let mut tunnel = claim.await.unwrap();
            tunnel.write_all(b"hello").await.unwrap();
            tunnel.shutdown().await.unwrap();
            pending::<()>().await;
        });
    }
}

/// What a client is given who asks for it with this method.
async fn seen(method: Method, response: Response<Body>, claimed: bool) -> Result<Seen, Reason> {
    let scene = async move {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        spawn_local(serve(ours, response, claimed));
        let (sender, connection) = h2::client::handshake(theirs).await.unwrap();
        spawn_local(connection);
        let uri = match method {
            Method::CONNECT => "here:80",
            _ => "http://here/a",
        };
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let mut sender = sender.ready().await.unwrap();
        let (answer, _behind) = sender.send_request(request, false).unwrap();
        match answer.await {
            Ok(answer) => Ok(read(answer).await),
            Err(error) => Err(error.reason().unwrap()),
        }
    };
    LocalSet::new().run_until(scene).await
}

async fn read(answer: Response<RecvStream>) -> Seen {
    let (head, mut body) = answer.into_parts();
    let mut seen = Seen {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::new(),
        trailers: None,
        error: None,
    };
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => seen.body.push_str(str::from_utf8(&data).unwrap()),
            Err(error) => {
                seen.error = error.reason();
                return seen;
            }
        }
    }
    seen.trailers = body.trailers().await.unwrap();
    seen
}

/// A body of these frames; before an error the connection has its turn.
struct Frames(Vec<Result<Frame<Bytes>, BodyError>>, bool);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if matches!(self.0.first(), Some(Err(_))) && !std::mem::replace(&mut self.1, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.0.is_empty() {
            true => None,
            false => Some(self.0.remove(0)),
        })
    }
}

fn frames(frames: impl IntoIterator<Item = Result<Frame<Bytes>, BodyError>>) -> Body {
    Body::stream(Frames(frames.into_iter().collect(), false))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn answer(status: u16, fields: &[(&'static str, &'static str)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in fields {
        let value = HeaderValue::from_static(value);
        response.headers_mut().append(*name, value);
    }
    response
}

#[tokio::test]
async fn heads_and_bodies_are_sent_as_their_requests_want_them() {
    let hello = || Body::full("hello");
    let pieces = || frames([data("he"), data(""), data("llo")]);
    for (name, method, response, length, body) in [
        (
            "plain",
            Method::GET,
            answer(200, &[], hello()),
            Some("5"),
            "hello",
        ),
        (
            "nothing",
            Method::GET,
            answer(200, &[], Body::Empty),
            None,
            "",
        ),
        (
            "pieces",
            Method::GET,
            answer(200, &[], pieces()),
            None,
            "hello",
        ),
        (
            "a length that is said",
            Method::GET,
            answer(200, &[("content-length", "5")], pieces()),
            Some("5"),
            "hello",
        ),
        (
            "head",
            Method::HEAD,
            answer(200, &[("content-length", "12")], Body::Empty),
            Some("12"),
            "",
        ),
        (
            "head, with a body",
            Method::HEAD,
            answer(401, &[], hello()),
            None,
            "",
        ),
        (
            "no content",
            Method::GET,
            answer(204, &[("content-length", "5")], hello()),
            None,
            "",
        ),
        (
            "not modified",
            Method::GET,
            answer(304, &[("content-length", "5")], Body::Empty),
            Some("5"),
            "",
        ),
        (
            "a refused CONNECT",
            Method::CONNECT,
            answer(405, &[], hello()),
            Some("5"),
            "hello",
        ),
    ] {
        let status = response.status().as_u16();
        let seen = seen(method, response, false).await.unwrap();
        assert_eq!((seen.status, &*seen.body), (status, body), "{name}");
        let stated = seen.headers.get("content-length");
        assert_eq!(stated.map(|it| it.to_str().unwrap()), length, "{name}");
        assert_eq!(seen.error, None, "{name}");
        assert!(seen.headers.contains_key("date"), "{name}");
    }
}

#[tokio::test]
async fn a_date_that_is_there_stays_and_fields_of_a_connection_do_not_pass() {
    let fields = [
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("connection", "close, x-a"),
        ("x-a", "b"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
    ];
    let seen = seen(Method::GET, answer(200, &fields, Body::Empty), false)
        .await
        .unwrap();
    assert_eq!(seen.headers.len(), 1, "{:?}", seen.headers);
    assert_eq!(seen.headers["date"], fields[0].1);
}

#[tokio::test]
async fn trailers_pass_without_what_frames_a_message() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    trailers.insert("connection", HeaderValue::from_static("close"));
    trailers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    let body = frames([data("ab"), Ok(Frame::trailers(trailers))]);
    let seen = seen(Method::GET, answer(200, &[], body), false)
        .await
        .unwrap();
    assert_eq!(seen.body, "ab");
    let trailers = seen.trailers.unwrap();
    assert_eq!(
        (trailers.len(), &trailers["x-sum"]),
        (1, &"7".parse().unwrap())
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_reset() {
    let body = frames([data("ab"), Err(BodyError::TimedOut)]);
    let seen = seen(Method::GET, answer(200, &[], body), false)
        .await
        .unwrap();
    assert_eq!(
        (&*seen.body, seen.error),
        ("ab", Some(Reason::INTERNAL_ERROR))
    );
}

#[tokio::test]
async fn a_connect_is_told_that_its_tunnel_is_open_only_when_it_is() {
    let open = || answer(200, &[("content-length", "0")], Body::Empty);
    let seen_open = seen(Method::CONNECT, open(), true).await.unwrap();
    assert_eq!((seen_open.status, &*seen_open.body), (200, "hello"));
    assert!(!seen_open.headers.contains_key("content-length"));
    let seen_shut = seen(Method::CONNECT, open(), false).await;
    assert_eq!(seen_shut.unwrap_err(), Reason::INTERNAL_ERROR);
}

/// Seconds until the server gives up a client that does what `client` does; `None`: it does not, in an hour.
async fn given_up_after<C: Future<Output = ()>>(
    client: impl FnOnce(UnixStream) -> C,
) -> Option<u64> {
    const SILENCES: vitals::Patience = vitals::Patience {
        head: Duration::from_secs(15),
        idle: Duration::from_secs(75),
        send: Duration::from_secs(60),
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ward = Ward::open();
    let bed = ward.admit();
    let start = Instant::now();
    let serve = async {
        let (mut open, outlet) = open(ours, &bed).await;
        let mut next = |cx: &mut Context<'_>| {
            let next = open.poll(cx, &bed.vitals);
            let _ = outlet.poll_out(cx);
            next
        };
        while poll_fn(&mut next).await.is_some() {}
        start.elapsed().as_secs()
    };
    tokio::select! {
        seconds = serve => Some(seconds),
        () = Rc::clone(&ward).rounds(|| SILENCES) => unreachable!("rounds never end"),
        () = async { client(theirs).await; pending().await } => None,
        () = tokio::time::sleep(Duration::from_secs(3600)) => None,
    }
}

async fn open(ours: UnixStream, bed: &Bed) -> (Open, Outlet<Watched>) {
    let (wire, outlet) = gather(Watched::new(Wire::Unix(ours), Rc::clone(&bed.vitals)));
    let mut connection = h2::server::handshake(wire).await.unwrap();
    let pings = connection
        .ping_pong()
        .map(|pings| Pings::new(pings, SILENCE));
    (Open { connection, pings }, outlet)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const NO_WINDOW: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_given_up() {
    let silent = async |mut io: UnixStream| {
        io.write_all(PREFACE).await.unwrap();
        pending::<()>().await;
    };
    let seconds = given_up_after(silent).await.unwrap();
    assert!((50..=52).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_is_kept() {
    let answers = async |io: UnixStream| {
        let (_sender, connection) = h2::client::handshake(io).await.unwrap();
        connection.await.unwrap();
    };
    assert_eq!(given_up_after(answers).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_something_else_is_kept_for_as_long_as_it_does() {
    let talks = async |mut io: UnixStream| {
        io.write_all(PREFACE).await.unwrap();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(15)).await;
            io.write_all(NO_WINDOW).await.unwrap();
        }
        pending::<()>().await;
    };
    let seconds = given_up_after(talks).await.unwrap();
    assert!((200..=203).contains(&seconds), "{seconds}");
}
