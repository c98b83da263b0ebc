//! Connections over in-memory pipes, on paused time.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Request;
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::Fault;
use super::connection::{Connection, Place};
use super::exchange::Exchange;
use crate::body::{Body, BodyError};
use crate::wire::Wire;

/// A connection, and the upstream's end of it.
async fn connection() -> (Rc<Connection>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::open(Wire::Unix(ours)).await.unwrap(), theirs)
}

fn post() -> Request<()> {
    Request::post("http://here/a").body(()).unwrap()
}

async fn answer(exchange: &mut Exchange) -> Result<u16, Fault> {
    let answer = poll_fn(|cx| exchange.poll_head(cx, &mut |_, _| ())).await?;
    Ok(answer.status().as_u16())
}

/// Seconds until a request fails of which the upstream does what `upstream` does; `None`: it does not, in an hour.
async fn fails_after<U: Future<Output = ()>>(
    upstream: impl FnOnce(UnixStream) -> U,
) -> Option<u64> {
    let scene = async {
        let (connection, theirs) = connection().await;
        let start = Instant::now();
        let place = connection.place();
        let mut exchange = Exchange::begin(place, post(), Body::Empty).unwrap();
        let failed = async {
            assert!(answer(&mut exchange).await.unwrap_err().is_cut());
            assert!(!connection.is_open());
            start.elapsed().as_secs()
        };
        tokio::select! {
            seconds = failed => Some(seconds),
            () = async { upstream(theirs).await; pending().await } => None,
            () = tokio::time::sleep(Duration::from_secs(3600)) => None,
        }
    };
    LocalSet::new().run_until(scene).await
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

#[tokio::test(start_paused = true)]
async fn an_upstream_that_answers_no_ping_is_given_up_and_one_that_does_is_not() {
    let silent = async |mut io: UnixStream| {
        io.write_all(SETTINGS).await.unwrap();
        pending::<()>().await;
    };
    assert_eq!(fails_after(silent).await, Some(40));
    let answers = async |io: UnixStream| {
        let mut connection = h2::server::handshake(io).await.unwrap();
        let _asked = connection.accept().await;
        connection.accept().await;
    };
    assert_eq!(fails_after(answers).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_nobody_waits_for_is_not_asked() {
    let scene = async {
        let (connection, mut theirs) = connection().await;
        theirs.write_all(SETTINGS).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(connection.is_open());
        assert_eq!(connection.idle(), Some(Duration::from_secs(3600)));
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn there_are_as_many_places_as_both_sides_allow_and_each_comes_back() {
    let scene = async {
        let (connection, _theirs) = connection().await;
        let places = all_places(&connection);
        assert_eq!(places.len(), 100);
        assert_eq!(connection.idle(), None);
        drop(places);
        assert!(connection.idle().is_some());
        let (connection, theirs) = self::connection().await;
        let mut narrow = h2::server::Builder::new();
        narrow.max_concurrent_streams(3);
        let mut theirs = narrow.handshake::<_, Bytes>(theirs).await.unwrap();
        tokio::task::spawn_local(async move { while theirs.accept().await.is_some() {} });
        // A refused stream shows that the settings have been read.
        let mut exchange = Exchange::begin(connection.place(), post(), Body::Empty).unwrap();
        assert!(answer(&mut exchange).await.is_err());
        drop(exchange);
        assert_eq!(all_places(&connection).len(), 3);
    };
    LocalSet::new().run_until(scene).await;
}

fn all_places(connection: &Rc<Connection>) -> Vec<Place> {
    std::iter::from_fn(|| connection.has_room().then(|| connection.place())).collect()
}

/// A body that never comes, or breaks off.
struct Upload(Option<BodyError>);

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.0.take() {
            None => Poll::Pending,
            Some(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

#[tokio::test]
async fn a_body_of_which_nothing_was_taken_comes_back() {
    let scene = async {
        let (connection, theirs) = connection().await;
        let refuse = async {
            let mut theirs = h2::server::handshake(theirs).await.unwrap();
            while let Some(asked) = theirs.accept().await {
                asked.unwrap().1.send_reset(Reason::REFUSED_STREAM);
            }
        };
        tokio::task::spawn_local(refuse);
        let body = Body::stream(Upload(None));
        let mut exchange = Exchange::begin(connection.place(), post(), body).unwrap();
        assert!(answer(&mut exchange).await.unwrap_err().is_unprocessed());
        assert!(exchange.untouched().is_some());
        let body = Body::full("taken");
        let mut exchange = Exchange::begin(connection.place(), post(), body).unwrap();
        assert!(answer(&mut exchange).await.is_err());
        assert!(exchange.untouched().is_none());
    };
    LocalSet::new().run_until(scene).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_resets_its_stream() {
    let scene = async {
        let (connection, theirs) = connection().await;
        let body = Body::stream(Upload(Some(BodyError::TimedOut)));
        let mut exchange = Exchange::begin(connection.place(), post(), body).unwrap();
        let failed = answer(&mut exchange).await;
        assert!(matches!(failed, Err(Fault::Upload)));
        let mut theirs = h2::server::handshake(theirs).await.unwrap();
        let (request, _reply): (_, h2::server::SendResponse<Bytes>) =
            theirs.accept().await.unwrap().unwrap();
        let mut body = request.into_body();
        let reading = async { body.data().await.unwrap().unwrap_err().reason() };
        let reason = tokio::select! {
            reason = reading => reason,
            _ = theirs.accept() => unreachable!("nothing more is asked"),
        };
        assert_eq!(reason, Some(Reason::CANCEL));
    };
    LocalSet::new().run_until(scene).await;
}
