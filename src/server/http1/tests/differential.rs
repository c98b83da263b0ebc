//! The same bytes to our server and to hyper's: ours sees the requests that hyper's sees, or refuses.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{LIMITS, connection};
use crate::body::Body;
use crate::http1::link::Rest;
use crate::server::http1::answer::Answer;
use crate::server::http1::poll_request;
use crate::server::http1::request::{After, Reader};

/// A request, whole.
#[derive(Debug, PartialEq)]
struct Seen {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// `None`: its body broke off.
async fn see<B>(request: Request<B>) -> Option<Seen>
where
    B: http_body::Body<Data = bytes::Bytes>,
{
    let (head, body) = request.into_parts();
    let collected = body.collect().await.ok()?;
    Some(Seen {
        method: head.method,
        uri: head.uri,
        version: head.version,
        headers: head.headers,
        trailers: collected.trailers().cloned(),
        body: collected.to_bytes().to_vec(),
    })
}

async fn ours(bytes: &[u8]) -> Vec<Seen> {
    let (link, bed, mut theirs) = connection();
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut all = Vec::new();
    let mut reader = Reader::within(LIMITS);
    while let Some(Ok(asked)) =
        poll_fn(|cx| poll_request(cx, &link, &bed.vitals, &mut reader)).await
    {
        let manner = asked.manner;
        let body = link.open(asked.framing, asked.interim);
        let Some(seen) = see(asked.head.map(|()| body)).await else {
            break;
        };
        all.push(seen);
        let response = Response::new(Body::Empty);
        let (mut answer, after) = Answer::begin(response, manner, &link, |_| ());
        poll_fn(|cx| answer.poll(cx, &link)).await;
        let rest = poll_fn(|cx| link.poll_rest(cx)).await;
        if after == After::Close || rest == Rest::Unknown {
            break;
        }
    }
    link.close();
    theirs.read_to_end(&mut Vec::new()).await.unwrap();
    all
}

async fn hypers(bytes: &[u8]) -> Vec<Seen> {
    let (socket, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let all = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&all);
    let service = service_fn(move |request: Request<Incoming>| {
        let told = Rc::clone(&told);
        async move {
            let seen = see(request).await;
            told.borrow_mut().extend(seen);
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let _ = http1::Builder::new()
        .half_close(true)
        .max_headers(LIMITS.fields + 1)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    theirs.read_to_end(&mut Vec::new()).await.unwrap();
    Rc::into_inner(all).unwrap().into_inner()
}

/// How ours stands to hyper's.
#[derive(Debug, PartialEq)]
enum Verdict {
    Same,
    BothRefuse,
    /// Ours sees fewer requests, the same ones as far as it sees any.
    Stricter,
}
use Verdict::{BothRefuse, Same, Stricter};

async fn compare(bytes: &[u8]) -> Result<Verdict, String> {
    let (ours, hypers) = (ours(bytes).await, hypers(bytes).await);
    match () {
        () if ours.is_empty() && hypers.is_empty() => Ok(BothRefuse),
        () if ours == hypers => Ok(Same),
        () if hypers.starts_with(&ours) => Ok(Stricter),
        () => Err(format!(
            "{:?}: {ours:?} and {hypers:?}",
            bytes::Bytes::copy_from_slice(bytes)
        )),
    }
}

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

const VALID: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "\r\n\r\nGET /a?b=c&d HTTP/1.1\r\nHost: h\r\nA:\r\nB:  c \r\nA: d\r\n\r\n",
    "GET http://h:80/a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /a HTTP/1.1\r\nHost: h\r\nX: \u{e4}\u{f6}\r\n\r\n",
    "GET /a HTTP/1.0\r\n\r\n",
    "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "POST /a HTTP/1.0\r\nContent-Length: 005\r\nConnection: keep-alive\r\n\r\nhello",
    "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
    "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: h\r\ntransfer-encoding: CHUNKED\r\n\r\n05 ;a=b\r\nhello\r\nB;\r\nhello world\r\n00\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nY: z\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
];

const OTHERS: &[(&str, Verdict)] = &[
    // What hyper lets through.
    ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", Stricter),
    ("GET /a HTTP/1.1\nHost: h\n\n", Stricter),
    ("GET /a HTTP/1.1\r\nHost: h\r\nA: b\nC: d\r\n\r\n", Stricter),
    ("\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", Stricter),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        Stricter,
    ),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Stricter,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;\x01\r\nhi\r\n0\r\n\r\n",
        Stricter,
    ),
    // What neither takes.
    (
        "POST /a HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\nhi",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nContent-Length: +2\r\n\r\nhi",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 0x2\r\n\r\nhi",
        BothRefuse,
    ),
    ("POST /a HTTP/1.1\r\nContent-Length:\r\n\r\nhi", BothRefuse),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\nhi",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhi",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
        BothRefuse,
    ),
    (
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nhi\r\n0\r\n\r\n",
        BothRefuse,
    ),
    ("GET /a HTTP/1.1\r\nA: b\r\n c\r\n\r\n", BothRefuse),
    ("GET /a HTTP/1.1\r\nA : b\r\n\r\n", BothRefuse),
    ("GET /a HTTP/1.1\r\nA: b\0\r\n\r\n", BothRefuse),
    ("GET /a HTTP/1.1\r\nA: b\rc\r\n\r\n", BothRefuse),
    ("GET /a  HTTP/1.1\r\n\r\n", BothRefuse),
    ("GET /a HTTP/2.0\r\n\r\n", BothRefuse),
    ("GET /a HTTP/1.1\r\nA: b", BothRefuse),
];

#[tokio::test]
async fn ours_sees_what_hyper_sees_or_refuses() {
    let valid = VALID.iter().map(|request| (*request, &Same));
    let others = OTHERS.iter().map(|(request, verdict)| (*request, verdict));
    for (request, expected) in valid.chain(others) {
        let verdict = compare(request.as_bytes()).await;
        assert_eq!(verdict.as_ref(), Ok(expected), "{request:?}");
        compare(format!("{request}{NEXT}").as_bytes())
            .await
            .unwrap();
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
    let telling = prop::sample::select(b"\r\n\t \0:;,#?/0129aF+-x\x7f\xff".to_vec());
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
fn ours_sees_what_hyper_sees_or_refuses_whatever_bytes_are_changed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = Config {
        cases: std::env::var("PROPTEST_CASES").map_or(3000, |cases| cases.parse().unwrap()),
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
    let run = runner.run(&cases, |(request, changes)| {
        let mut bytes = format!("{request}{NEXT}").into_bytes();
        changes.iter().for_each(|change| apply(&mut bytes, change));
        let verdict = runtime.block_on(compare(&bytes));
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
        counts[0] > 400 && counts[1] > 400 && counts[2] > 50,
        "{counts:?}"
    );
}
