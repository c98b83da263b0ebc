use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection;
use crate::body::{Body, BodyError};
use crate::http1::framing::Framing;
use crate::http1::link::Interim;
use crate::server::http1::answer::{Answer, Sent};
use crate::server::http1::request::{After, Manner, Takes, Wish};

const PLAIN: Manner = Manner {
    version: Version::HTTP_11,
    after: After::Keep,
    takes: Takes::Body,
    wish: Wish::Stay,
};
const OLD: Manner = Manner {
    version: Version::HTTP_10,
    ..PLAIN
};
const HEAD: Manner = Manner {
    takes: Takes::Head,
    ..PLAIN
};
const LAST: Manner = Manner {
    after: After::Close,
    ..PLAIN
};
const TRAILERS: Manner = Manner {
    takes: Takes::Trailers,
    ..PLAIN
};

/// A body of these frames, of an announced length or none.
struct Script {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    length: Option<u64>,
}

impl HttpBody for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.frames.pop_front())
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn script(length: Option<u64>, data: &[&'static str]) -> Script {
    let frames = data
        .iter()
        .map(|data| Ok(Frame::data(Bytes::from_static(data.as_bytes()))));
    Script {
        frames: frames.collect(),
        length,
    }
}

fn unmeasured(data: &[&'static str]) -> Body {
    Body::stream(script(None, data))
}

fn response(status: u16, fields: &[(&'static str, &'static str)], body: Body) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

/// The bytes that leave, what became of them, and of the connection.
async fn sent(response: Response<Body>, manner: Manner) -> (String, Sent, After) {
    let (link, _bed, mut theirs) = connection();
    let (mut answer, after) = Answer::begin(response, manner, &link, |out| {
        out.extend_from_slice(b"date: x\r\n");
    });
    let send = async {
        let sent = poll_fn(|cx| answer.poll(cx, &link)).await;
        link.close();
        sent
    };
    let mut bytes = String::new();
    let (sent, read) = tokio::join!(send, theirs.read_to_string(&mut bytes));
    read.unwrap();
    (bytes, sent, after)
}

#[tokio::test]
async fn an_answer_is_written_to_the_byte() {
    let ok = |body| response(200, &[("x-a", "b")], body);
    let table = [
        (
            ok(Body::full("hello")),
            PLAIN,
            "200 OK\r\nx-a: b\r\ncontent-length: 5\r\ndate: x\r\n\r\nhello",
        ),
        (
            ok(Body::Empty),
            PLAIN,
            "200 OK\r\nx-a: b\r\ncontent-length: 0\r\ndate: x\r\n\r\n",
        ),
        (
            ok(Body::full("hello")),
            LAST,
            "200 OK\r\nx-a: b\r\ncontent-length: 5\r\nconnection: close\r\ndate: x\r\n\r\nhello",
        ),
        (
            ok(unmeasured(&["hello", "", "0123456789abcdef0"])),
            PLAIN,
            "200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\ndate: x\r\n\r\n\
             5\r\nhello\r\n11\r\n0123456789abcdef0\r\n0\r\n\r\n",
        ),
        (
            ok(unmeasured(&[])),
            PLAIN,
            "200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\ndate: x\r\n\r\n0\r\n\r\n",
        ),
        (
            ok(unmeasured(&["hello"])),
            OLD,
            "200 OK\r\nx-a: b\r\nconnection: close\r\ndate: x\r\n\r\nhello",
        ),
        (
            ok(Body::full("hello")),
            OLD,
            "200 OK\r\nx-a: b\r\ncontent-length: 5\r\nconnection: keep-alive\r\ndate: x\r\n\r\nhello",
        ),
        (
            response(
                200,
                &[("content-length", "5"), ("date", "y")],
                unmeasured(&["he", "llo"]),
            ),
            PLAIN,
            "200 OK\r\ndate: y\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            response(200, &[("content-length", "12")], Body::Empty),
            HEAD,
            "200 OK\r\ncontent-length: 12\r\ndate: x\r\n\r\n",
        ),
        (
            ok(Body::full("hello")),
            HEAD,
            "200 OK\r\nx-a: b\r\ndate: x\r\n\r\n",
        ),
        (
            response(204, &[("content-length", "5")], Body::full("hello")),
            PLAIN,
            "204 No Content\r\ndate: x\r\n\r\n",
        ),
        (
            response(304, &[("content-length", "5"), ("etag", "z")], Body::Empty),
            PLAIN,
            "304 Not Modified\r\netag: z\r\ncontent-length: 5\r\ndate: x\r\n\r\n",
        ),
        (
            response(
                101,
                &[("connection", "upgrade"), ("upgrade", "y")],
                Body::Empty,
            ),
            LAST,
            "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: y\r\ndate: x\r\n\r\n",
        ),
        (
            response(999, &[("connection", "close")], Body::full("x")),
            PLAIN,
            "999 \r\ncontent-length: 1\r\nconnection: close\r\ndate: x\r\n\r\nx",
        ),
        (
            response(
                200,
                &[("transfer-encoding", "gzip"), ("content-length", "9")],
                Body::full("x"),
            ),
            PLAIN,
            "200 OK\r\ncontent-length: 1\r\ndate: x\r\n\r\nx",
        ),
    ];
    for (response, manner, expected) in table {
        let (bytes, sent, after) = sent(response, manner).await;
        assert_eq!(bytes, format!("HTTP/1.1 {expected}"));
        assert_eq!(sent, Sent::Whole);
        let closes = expected.contains("connection: close") || manner.after == After::Close;
        assert_eq!(after == After::Close, closes, "{expected}");
    }
}

#[tokio::test]
async fn trailers_go_to_those_who_take_them_without_what_would_frame() {
    for (manner, end) in [(TRAILERS, "0\r\nx-sum: 1\r\n\r\n"), (PLAIN, "0\r\n\r\n")] {
        let mut body = script(None, &["hi"]);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("content-length", "7".parse().unwrap());
        body.frames.push_back(Ok(Frame::trailers(trailers)));
        let (bytes, sent, _) = sent(response(200, &[], Body::stream(body)), manner).await;
        assert!(bytes.ends_with(&format!("2\r\nhi\r\n{end}")), "{bytes}");
        assert_eq!(sent, Sent::Whole);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_its_word_gets_no_end() {
    let broken = |length| {
        let mut body = script(length, &["some"]);
        body.frames.push_back(Err(BodyError::Ended));
        Body::stream(body)
    };
    let short = Body::stream(script(Some(9), &["short"]));
    let long = Body::stream(script(Some(4), &["longer"]));
    let table = [
        (short, PLAIN, "short", Sent::Broken),
        (long, PLAIN, "\r\n\r\n", Sent::Broken),
        (broken(None), PLAIN, "4\r\nsome\r\n", Sent::Broken),
        (broken(Some(9)), PLAIN, "some", Sent::Broken),
        (broken(None), OLD, "some", Sent::Unseen),
    ];
    for (body, manner, end, became) in table {
        let (bytes, sent, _) = sent(response(200, &[], body), manner).await;
        assert!(bytes.ends_with(end), "{bytes}");
        assert_eq!(sent, became, "{bytes}");
        assert!(!bytes.ends_with("0\r\n\r\n"), "{bytes}");
    }
}

#[tokio::test]
async fn a_body_that_is_read_elsewhere_breaks_off_when_the_rest_is_thrown_away() {
    let (link, _bed, mut theirs) = connection();
    let mut body = link.open(Framing::Length(6), Interim::Hints);
    theirs.write_all(b"hi").await.unwrap();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "hi");
    let goodbye = poll_fn(|cx| Poll::Ready(link.poll_goodbye(cx).is_pending()));
    assert!(goodbye.await);
    theirs.write_all(b"rest").await.unwrap();
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn large_and_small_pieces_keep_their_order_through_a_full_socket() {
    let large: &'static str = Box::leak("0123456789".repeat(100_000).into_boxed_str());
    let middle = &large[..5000];
    for (body, start) in [
        (unmeasured(&["a", large, "b", middle, "c", large]), true),
        (
            Body::stream(script(
                Some(2_005_003),
                &["a", large, "b", middle, "c", large],
            )),
            false,
        ),
    ] {
        let (bytes, sent, _) = sent(response(StatusCode::OK.as_u16(), &[], body), PLAIN).await;
        assert_eq!(sent, Sent::Whole);
        let (_, body) = bytes.split_once("\r\n\r\n").unwrap();
        let expected = match start {
            true => format!(
                "1\r\na\r\nf4240\r\n{large}\r\n1\r\nb\r\n1388\r\n{middle}\r\n1\r\nc\r\nf4240\r\n{large}\r\n0\r\n\r\n"
            ),
            false => format!("a{large}b{middle}c{large}"),
        };
        assert!(body == expected, "{} and {}", body.len(), expected.len());
    }
}
