use http::Request;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::body::Body;

/// Reads an answer that comes in one write; whether it came whole, its body, and how many connections are kept.
async fn outcome(method: Method, bytes: &str) -> (bool, String, usize) {
    let pool = Rc::new(Pool::with_room(4));
    let (channel, mut theirs) = connection();
    theirs.write_all(bytes.as_bytes()).await.unwrap();
    // Half closed: the end is read only where somebody reads that far.
    theirs.shutdown().await.unwrap();
    let (mut answer, mut reading) = begin(channel, &method, None, &pool).await.unwrap();
    let whole = finish(&mut answer, &mut reading).await.is_ok();
    assert!(poll_fn(|cx| reading.poll_frame(cx)).await.is_none());
    (whole, String::from_utf8(answer.body).unwrap(), pool.kept())
}

#[tokio::test]
async fn a_connection_is_kept_only_after_a_whole_answer_and_nothing_behind_it() {
    let table = [
        // (fields and body, whole, body, kept)
        ("content-length: 2\r\n\r\nhi", true, "hi", 1),
        ("content-length: 0\r\n\r\n", true, "", 1),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            true,
            "hi",
            1,
        ),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\na: b\r\n\r\n",
            true,
            "hi",
            1,
        ),
        (
            "connection: close\r\ncontent-length: 2\r\n\r\nhi",
            true,
            "hi",
            0,
        ),
        ("content-length: 2\r\n\r\nhi!", true, "hi", 0),
        (
            "content-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            true,
            "",
            0,
        ),
        ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n!", true, "", 0),
        (
            "transfer-encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n!",
            true,
            "",
            0,
        ),
        ("\r\nhi", true, "hi", 0),
        ("\r\n", true, "", 0),
        ("content-length: 5\r\n\r\nhi", false, "hi", 0),
        ("transfer-encoding: chunked\r\n\r\n5\r\nhi", false, "hi", 0),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            false,
            "hi",
            0,
        ),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\nx",
            false,
            "hi",
            0,
        ),
        (
            "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
            false,
            "hi",
            0,
        ),
    ];
    for (rest, whole, body, kept) in table {
        let bytes = format!("HTTP/1.1 200 OK\r\n{rest}");
        let found = outcome(Method::GET, &bytes).await;
        assert_eq!(found, (whole, body.to_owned(), kept), "{rest:?}");
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
    assert_eq!(outcome(Method::HEAD, head).await, (true, String::new(), 1));
    let body = format!("{head}hi");
    assert_eq!(outcome(Method::HEAD, &body).await, (true, String::new(), 0));
    let old = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(outcome(Method::GET, old).await, (true, "hi".to_owned(), 0));
}

/// A body whose frames come through the sender; dropping that ends it.
fn upload() -> (
    tokio::sync::mpsc::UnboundedSender<&'static str>,
    Box<Sending>,
) {
    struct Frames(tokio::sync::mpsc::UnboundedReceiver<&'static str>);
    impl http_body::Body for Frames {
        type Data = bytes::Bytes;
        type Error = crate::body::BodyError;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            let frame = self.0.poll_recv(cx);
            frame.map(|data| data.map(|data| Ok(http_body::Frame::data(data.into()))))
        }
    }
    let (frames, receiver) = tokio::sync::mpsc::unbounded_channel();
    let mut request = Request::put("/")
        .body(Body::stream(Frames(receiver)))
        .unwrap();
    let mut sending = Box::new(Sending::new(&mut request));
    sending.aim(&request, |_| ());
    (frames, sending)
}

#[tokio::test]
async fn an_early_answer_keeps_its_connection_only_if_the_upload_ends_first() {
    for ends in [true, false] {
        let pool = Rc::new(Pool::with_room(4));
        let (channel, mut theirs) = connection();
        let (frames, sending) = upload();
        frames.send("hello").unwrap();
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        theirs.write_all(head).await.unwrap();
        let begun = begin(channel, &Method::PUT, Some(sending), &pool).await;
        let (mut answer, mut reading) = begun.unwrap();
        let frames = if ends {
            drop(frames);
            None
        } else {
            Some(frames)
        };
        theirs.write_all(b"hi").await.unwrap();
        finish(&mut answer, &mut reading).await.unwrap();
        assert_eq!(
            (answer.body.as_slice(), pool.kept()),
            (&b"hi"[..], usize::from(ends))
        );
        drop((reading, frames));
        if !ends {
            let mut rest = String::new();
            let read = tokio::io::AsyncReadExt::read_to_string(&mut theirs, &mut rest).await;
            read.unwrap();
            assert!(
                rest.ends_with("5\r\nhello\r\n"),
                "an unfinished upload got an end: {rest:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_kept_connection_on_which_something_came_is_not_fit() {
    let (mut channel, mut theirs) = connection();
    assert!(channel.is_fit());
    theirs.write_all(b"H").await.unwrap();
    theirs.flush().await.unwrap();
    poll_fn(|cx| channel.poll_more(cx)).await.unwrap();
    assert!(!channel.is_fit());

    let (mut channel, theirs) = connection();
    drop(theirs);
    let Wire::Unix(socket) = &channel.wire else {
        unreachable!()
    };
    socket.readable().await.unwrap();
    assert!(!channel.is_fit());
}
