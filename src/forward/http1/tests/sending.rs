use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::AsyncReadExt;

use super::*;
use crate::body::{Body, BodyError};

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

fn request(method: &str, body: Body) -> Request<Body> {
    let request = Request::builder().method(method).uri("/a?b=c");
    request.header("x-a", "b").body(body).unwrap()
}

/// The bytes that leave, and whether they left well.
async fn sent(request: Request<Body>) -> (String, Result<(), Fault>) {
    sent_with(request, "").await
}

async fn sent_with(mut request: Request<Body>, more: &str) -> (String, Result<(), Fault>) {
    let (mut channel, mut theirs) = connection();
    let mut sending = Sending::new(&mut request);
    sending.aim(&request, |out| out.extend_from_slice(more.as_bytes()));
    let done = poll_fn(|cx| sending.poll(cx, &mut channel.wire)).await;
    assert_eq!(sending.is_done(), done.is_ok());
    drop(channel);
    let mut bytes = String::new();
    theirs.read_to_string(&mut bytes).await.unwrap();
    (bytes, done)
}

#[tokio::test]
async fn more_lines_stand_behind_the_fields_of_a_head() {
    for more in ["", "x-user-id: u1\r\nx-user-role: a\r\n"] {
        let body = Body::Full(Some(Bytes::from_static(b"hi")));
        let (bytes, done) = sent_with(request("POST", body), more).await;
        let expected =
            format!("POST /a?b=c HTTP/1.1\r\nx-a: b\r\n{more}content-length: 2\r\n\r\nhi");
        assert_eq!((bytes, done.is_ok()), (expected, true));
    }
}

#[tokio::test]
async fn a_request_is_written_to_the_byte() {
    let mut with_trailers = script(None, &["hello", "", "0123456789"]);
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    with_trailers
        .frames
        .push_back(Ok(Frame::trailers(trailers)));
    let table = [
        (
            request("GET", Body::Empty),
            "GET /a?b=c HTTP/1.1\r\nx-a: b\r\n\r\n",
        ),
        (
            request("DELETE", Body::Empty),
            "DELETE /a?b=c HTTP/1.1\r\nx-a: b\r\n\r\n",
        ),
        (
            request("POST", Body::Empty),
            "POST /a?b=c HTTP/1.1\r\nx-a: b\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            request("PUT", Body::Empty),
            "PUT /a?b=c HTTP/1.1\r\nx-a: b\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            request("POST", Body::full("hello")),
            "POST /a?b=c HTTP/1.1\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (
            request("GET", Body::stream(script(Some(4), &["he", "y!"]))),
            "GET /a?b=c HTTP/1.1\r\nx-a: b\r\ncontent-length: 4\r\n\r\nhey!",
        ),
        (
            request("POST", Body::stream(script(None, &[]))),
            "POST /a?b=c HTTP/1.1\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            request("POST", Body::stream(with_trailers)),
            "POST /a?b=c HTTP/1.1\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\na\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n",
        ),
    ];
    for (request, expected) in table {
        let (bytes, done) = sent(request).await;
        assert!(done.is_ok());
        assert_eq!(bytes, expected);
    }
}

#[tokio::test]
async fn framing_fields_of_the_client_are_never_sent() {
    for (body, own) in [
        (Body::Empty, "content-length: 0"),
        (Body::full("hello"), "content-length: 5"),
        (
            Body::stream(script(None, &["hello"])),
            "transfer-encoding: chunked",
        ),
    ] {
        let mut request = request("POST", body);
        for value in ["3", "4"] {
            request
                .headers_mut()
                .append("content-length", value.parse().unwrap());
        }
        let coding = "gzip, chunked".parse().unwrap();
        request.headers_mut().insert("transfer-encoding", coding);
        let (bytes, done) = sent(request).await;
        assert!(done.is_ok());
        assert_eq!(
            bytes.matches("content-length").count() + bytes.matches("transfer-encoding").count(),
            1
        );
        assert!(bytes.contains(&format!("{own}\r\n\r\n")), "{bytes}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_its_word_gets_no_end() {
    let (bytes, done) = sent(request("PUT", Body::stream(script(Some(9), &["short"])))).await;
    assert!(matches!(done, Err(Fault::Upload)));
    assert!(
        !bytes.contains("short") || bytes.ends_with("short"),
        "{bytes}"
    );

    let (bytes, done) = sent(request("PUT", Body::stream(script(Some(4), &["longer"])))).await;
    assert!(matches!(done, Err(Fault::Upload)));
    assert_eq!(bytes, "");

    let mut broken = script(None, &["some"]);
    broken.frames.push_back(Err(BodyError::TooLarge));
    let (bytes, done) = sent(request("PUT", Body::stream(broken))).await;
    assert!(matches!(done, Err(Fault::Upload)));
    assert!(bytes.ends_with("4\r\nsome\r\n"), "{bytes}");
}

#[tokio::test]
async fn a_large_body_passes_a_full_socket() {
    let large = "x".repeat(1 << 20);
    let mut request = request("PUT", Body::full(large.clone()));
    let (mut channel, mut theirs) = connection();
    let mut sending = Sending::new(&mut request);
    sending.aim(&request, |_| ());
    assert!(sending.is_untouched());
    let send = async move {
        poll_fn(|cx| sending.poll(cx, &mut channel.wire))
            .await
            .unwrap();
        assert!(sending.is_done() && !sending.is_untouched());
    };
    let mut bytes = String::new();
    let (_, read) = tokio::join!(send, theirs.read_to_string(&mut bytes));
    read.unwrap();
    assert!(bytes.ends_with(&format!("content-length: 1048576\r\n\r\n{large}")));
}
