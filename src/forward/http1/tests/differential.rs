//! The same bytes to our reader and to hyper's client: ours gives what hyper gives, or refuses.

use std::cell::RefCell;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// `None`: refused, or broken off.
async fn ours(method: &Method, bytes: &[u8]) -> Option<Answer> {
    let (channel, mut theirs) = connection();
    theirs.write_all(bytes).await.unwrap();
    drop(theirs);
    let pool = Rc::new(Pool::with_room(1));
    let (mut answer, mut reading) = begin(channel, method, None, &pool).await.ok()?;
    finish(&mut answer, &mut reading).await.ok()?;
    Some(answer)
}

async fn hypers(method: &Method, bytes: &[u8]) -> Option<Answer> {
    let (socket, mut theirs) = UnixStream::pair().unwrap();
    let mut builder = http1::Builder::new();
    // Ours takes more fields than hyper does by default; that is a setting, not a matter of grammar.
    builder.max_headers(128);
    let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.unwrap();
    let request = Request::builder().method(method).uri("/");
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let upstream = async move {
        // Hyper takes what comes before the request for an answer to none.
        let mut request = [0; 1024];
        assert_ne!(theirs.read(&mut request).await.unwrap(), 0);
        let _ = theirs.write_all(bytes).await;
    };
    let exchange = async move {
        let (head, body) = sender
            .send_request(request)
            .await
            .ok()
            .map(Response::into_parts)?;
        let collected = body.collect().await.ok()?;
        Some(Answer {
            status: head.status,
            headers: head.headers,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes().to_vec(),
        })
    };
    tokio::join!(exchange, upstream, connection).0
}

/// How ours stands to hyper's.
#[derive(Debug, PartialEq)]
enum Verdict {
    Same,
    BothRefuse,
    /// Ours refuses what hyper's gives.
    Stricter,
}
use Verdict::{BothRefuse, Same, Stricter};

async fn compare(method: &Method, bytes: &[u8]) -> Result<Verdict, String> {
    match (ours(method, bytes).await, hypers(method, bytes).await) {
        (None, None) => Ok(BothRefuse),
        (None, Some(_)) => Ok(Stricter),
        (Some(ours), Some(hypers)) if ours == hypers => Ok(Same),
        // `fetch.rs` makes a tunnel of it, whose bytes are no body.
        (Some(ours), _) if ours.status == StatusCode::SWITCHING_PROTOCOLS => Ok(Same),
        (ours, hypers) => Err(format!(
            "{:?}: {ours:?} and {hypers:?}",
            bytes::Bytes::copy_from_slice(bytes)
        )),
    }
}

const VALID: &[&str] = &[
    "1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "1.1 200 OK\r\nContent-Length: 005\r\nA: b\r\nA: c\r\n\r\nhello",
    "1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello behind",
    "1.1 200\r\nContent-Length: 2\r\n\r\nhi",
    "1.1 200 \r\nContent-Length: 2\r\n\r\nhi",
    "1.1 200 \u{e4}\r\nX: \u{e4}\u{f6}\r\nContent-Length: 2\r\n\r\nhi",
    "1.1 200 OK\nContent-Length: 2\n\nhi",
    "1.1 200 OK\r\n\r\nuntil the end",
    "1.1 200 OK\r\n\r\n",
    "1.0 200 OK\r\n\r\nuntil the end",
    "1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    "1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n05 ;a=b\r\nhello\r\nB;\r\nhello world\r\n00\r\n\r\n",
    "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nY: z\r\n\r\n",
    "1.1 204 No Content\r\nA: b\r\n\r\n",
    "1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
    "1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    "1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nhi",
    "1.1 999 Odd\r\nContent-Length: 2\r\n\r\nhi",
    "1.1 200 OK\r\nSet-Cookie: a=b; c\r\nSet-Cookie: d\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nhi",
];

const OTHERS: &[(&str, Verdict)] = &[
    // Lengths that can be told in two ways, and codings that nobody asked for.
    (
        "1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        Stricter,
    ),
    ("1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", Stricter),
    (
        "1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    ("1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi", Stricter),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Stricter,
    ),
    ("1.1 304 No\r\nContent-Length: x\r\n\r\n", Stricter),
    (
        "1.1 204 No\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        Stricter,
    ),
    // Control bytes in an extension; bare LFs within trailers.
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;\x01\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\nC: d\r\n\r\n",
        Stricter,
    ),
    // What neither takes.
    (
        "1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        BothRefuse,
    ),
    ("1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", BothRefuse),
    ("1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi", BothRefuse),
    ("1.1 200 OK\r\nContent-Length: 2x\r\n\r\nhi", BothRefuse),
    ("1.1 200 OK\r\nContent-Length:\r\n\r\nhi", BothRefuse),
    (
        "1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhi",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhi",
        BothRefuse,
    ),
    ("1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", BothRefuse),
    (
        "1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 2\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 a\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
        BothRefuse,
    ),
    ("1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi", BothRefuse),
    (
        "1.1 200 OK\r\nA: b\0\r\nContent-Length: 2\r\n\r\nhi",
        BothRefuse,
    ),
    (
        "1.1 200 OK\r\nA: b\rc\r\nContent-Length: 2\r\n\r\nhi",
        BothRefuse,
    ),
    ("1.1 20 OK\r\n\r\n", BothRefuse),
    ("1.1 000 OK\r\n\r\n", BothRefuse),
    ("2.0 200 OK\r\n\r\n", BothRefuse),
    ("1.1 200 OK\r\nA: b", BothRefuse),
    ("1.1 100 Continue\r\n\r\n", BothRefuse),
];

#[tokio::test]
async fn ours_gives_what_hyper_gives_or_refuses() {
    let valid = VALID.iter().map(|answer| (*answer, &Same));
    for (answer, expected) in valid.chain(OTHERS.iter().map(|(answer, verdict)| (*answer, verdict)))
    {
        let bytes = format!("HTTP/{answer}");
        let verdict = compare(&Method::GET, bytes.as_bytes()).await;
        assert_eq!(verdict.as_ref(), Ok(expected), "{answer:?}");
        compare(&Method::HEAD, bytes.as_bytes()).await.unwrap();
    }
}

/// A change of one byte at a place.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let telling = prop::sample::select(b"\r\n\t \0:;,0129aF+-x\x7f\xff".to_vec());
    let byte = prop_oneof![4 => telling, 1 => any::<u8>()];
    (any::<prop::sample::Index>(), byte, 0..3).prop_map(|(at, byte, kind)| match kind {
        0 => Change::Set(at, byte),
        1 => Change::Insert(at, byte),
        _ => Change::Delete(at),
    })
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Change::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
        Change::Delete(at) => {
            bytes.remove(at.index(bytes.len()));
        }
    }
}

#[test]
fn ours_gives_what_hyper_gives_or_refuses_whatever_bytes_are_changed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: std::env::var("PROPTEST_CASES").map_or(2000, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let seen = RefCell::new(Vec::new());
    let cases = (
        prop::sample::select(VALID),
        prop::collection::vec(change(), 1..4),
    );
    let run = runner.run(&cases, |(answer, changes)| {
        let mut bytes = format!("HTTP/{answer}").into_bytes();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        let verdict = runtime.block_on(compare(&Method::GET, &bytes));
        prop_assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
        seen.borrow_mut().extend(verdict);
        Ok(())
    });
    run.unwrap();
    let count = |verdict| {
        seen.borrow()
            .iter()
            .filter(|seen| **seen == verdict)
            .count()
    };
    // Enough of each kind that the comparison means something.
    let counts = [count(Same), count(BothRefuse), count(Stricter)];
    assert!(
        counts[0] > 400 && counts[1] > 400 && counts[2] > 10,
        "{counts:?}"
    );
}
