use bytes::Bytes;
use tokio::io::AsyncWriteExt;

use super::*;

fn read(bytes: &str) -> Result<Option<(head::AnswerHead, usize)>, Fault> {
    head::read(&Bytes::copy_from_slice(bytes.as_bytes()))
}

#[test]
fn a_head_is_read_once_it_is_whole() {
    let whole = "HTTP/1.1 200 OK\r\nA:  b \r\nx-y:\r\nA: c\r\n\r\n";
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).unwrap().is_none(), "{end}");
    }
    let (head, length) = read(&format!("{whole}body")).unwrap().unwrap();
    assert_eq!((head.status, length), (StatusCode::OK, whole.len()));
    let values: Vec<_> = head.headers.get_all("a").iter().collect();
    assert_eq!(values, ["b", "c"]);
    assert_eq!(head.headers["x-y"], "");
}

#[test]
fn a_doubtful_head_is_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(129));
    let table = [
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\rA: b\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 000 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/0.9 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "<html>",
        &many,
    ];
    for bytes in table {
        let head = read(bytes);
        assert!(matches!(head, Err(Fault::Head(_))), "{bytes:?}: {head:?}");
    }
}

#[test]
fn a_connection_lives_on_only_if_the_answer_says_so() {
    let table = [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE ,y\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: x, Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, fields, expected) in table {
        let head = read(&format!("HTTP/{version} 200 OK\r\n{fields}\r\n"));
        let (head, _) = head.unwrap().unwrap();
        assert_eq!(head.keeps_alive(), expected, "{version} {fields:?}");
    }
}

/// What comes of the first head on a connection that brings `bytes` and is closed.
async fn first_head(bytes: Vec<u8>) -> Result<head::AnswerHead, Fault> {
    let (mut channel, mut theirs) = connection();
    let (head, ()) = tokio::join!(async move { read_head(&mut channel).await }, async move {
        // It may have been given up before the end.
        let _ = theirs.write_all(&bytes).await;
    });
    head
}

#[tokio::test]
async fn a_head_of_more_than_64_kib_is_refused() {
    for (size, fits) in [(60, true), (66, false), (1024, false)] {
        let value = "x".repeat(size * 1024);
        let head = format!("HTTP/1.1 200 OK\r\nA: {value}\r\n\r\n");
        let head = first_head(head.into_bytes()).await;
        let too_large = matches!(head, Err(Fault::HeadTooLarge));
        assert_eq!((head.is_ok(), too_large), (fits, !fits), "{size} KiB");
    }
}

#[tokio::test]
async fn interim_answers_are_told_and_passed_over() {
    let final_one = "HTTP/1.1 201 Created\r\n\r\n";
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let (mut channel, mut theirs) = connection();
    let bytes = format!("{interim}{final_one}");
    theirs.write_all(bytes.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    let mut hear =
        |status: StatusCode, headers: HeaderMap| told.push((status.as_u16(), headers.len()));
    let head = poll_fn(|cx| head::poll_head(cx, &mut channel, &mut hear)).await;
    let head = head.unwrap();
    assert_eq!(told, [(100, 0), (103, 1)]);
    assert_eq!((head.status, head.headers.len()), (StatusCode::CREATED, 0));
    let head = first_head(interim.into()).await;
    assert!(matches!(head, Err(Fault::Cut)));
    let head = first_head("HTTP/1.1 101 Switching\r\n\r\n".into()).await;
    assert_eq!(head.unwrap().status, StatusCode::SWITCHING_PROTOCOLS);
}
