//! HTTP/2 towards clients (RFC 9113): hyper speaks it. What it leaves open is added here: how long a client may
//! open no window for an answer that waits for it, which would hold the upstream's connection for ever.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError};
use crate::config;
use crate::gate::Conn;
use crate::server::Worker;
use crate::server::clerks::Order;
use crate::server::connection::drive;
use crate::wire::vitals::{Vitals, Watched};

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, wire: Watched, conn: Conn, vitals: &Rc<Vitals>) {
    let streams = Streams::default();
    let settings = worker.gate();
    let server = settings.server();
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(server.max_concurrent_streams)
        .max_header_list_size(u32::try_from(server.max_header_bytes).unwrap_or(u32::MAX))
        // Rapid reset and made-you-reset (CVE-2023-44487, CVE-2025-8671).
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    if server.http2_websocket {
        builder.enable_connect_protocol();
    }
    drop(settings);
    vitals.set_multiplexed();
    let (conn, watch) = (Rc::new(conn), Rc::clone(vitals));
    let service = service_fn(move |request: Request<Incoming>| {
        let gate = worker.gate();
        let pace = streams.begin(Patience::of(gate.server()));
        let order = Order {
            gate,
            conn: Rc::clone(&conn),
            request: request.map(Body::Incoming),
            busy: watch.begin(),
        };
        let handled = worker.clerks.handle(order);
        async move {
            let response = handled.await;
            Ok::<_, Infallible>(response.map(|body| Paced { body, pace }))
        }
    });
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    drive(pin!(connection), |it| it.graceful_shutdown(), vitals).await;
}

/// How long a client may leave a piece of an answer lying.
#[derive(Clone, Copy, Debug)]
struct Patience {
    timeout: Duration,
    /// Bytes of a piece that give another second; 0: none do.
    rate: u64,
}

impl Patience {
    fn of(server: &config::Server) -> Self {
        Self {
            timeout: server.send_timeout,
            rate: server.min_body_rate,
        }
    }

    fn with(self, bytes: usize) -> Duration {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000);
        let more = nanos.checked_div(self.rate).unwrap_or_default();
        self.timeout.saturating_add(Duration::from_nanos(more))
    }
}

/// Runs the streams of a connection on its worker.
#[derive(Clone, Default)]
struct Streams {
    /// Of the request that was just given to the service: hyper has its stream run right after.
    begun: Rc<RefCell<Option<Rc<Pace>>>>,
}

impl Streams {
    /// A request begins.
    fn begin(&self, patience: Patience) -> Rc<Pace> {
        let pace = Rc::new(Pace {
            patience,
            lying: Cell::new(None),
        });
        *self.begun.borrow_mut() = Some(Rc::clone(&pace));
        pace
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + 'static,
{
    fn execute(&self, stream: F) {
        match self.begun.take() {
            Some(pace) => tokio::task::spawn_local(Stream {
                stream,
                pace,
                alarm: None,
            }),
            // The writing half of a tunnel, which has an eye on its client itself.
            None => tokio::task::spawn_local(async move {
                stream.await;
            }),
        };
    }
}

/// How an answer leaves, as seen by whoever is asked for its body: hyper asks for the next piece when the client
/// has room for what it holds.
#[derive(Debug)]
struct Pace {
    patience: Patience,
    lying: Cell<Option<Lying>>,
}

/// A piece that was given and not yet followed by a question for more.
#[derive(Clone, Copy, Debug)]
enum Lying {
    /// Of so many bytes, since just now.
    JustNow(usize),
    /// Until then at most.
    Until(Instant),
}

impl Pace {
    /// When the client is given up; `None`: it is not waited for.
    fn deadline(&self) -> Option<Instant> {
        let until = match self.lying.get()? {
            Lying::Until(until) => until,
            Lying::JustNow(bytes) => Instant::now() + self.patience.with(bytes),
        };
        self.lying.set(Some(Lying::Until(until)));
        Some(until)
    }
}

/// An answer's body that notes its pace.
struct Paced {
    body: Body,
    pace: Rc<Pace>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.pace.lying.set(None);
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let size = frame.data_ref().map_or(0, Bytes::len);
            this.pace.lying.set(Some(Lying::JustNow(size)));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// A stream of a connection, which ends (with a reset) when its client leaves a piece lying for too long.
    struct Stream<F> {
        #[pin]
        stream: F,
        pace: Rc<Pace>,
        // Set for the first piece that lies, and set right when it rings too early.
        alarm: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = this.pace.deadline() else {
            return Poll::Pending;
        };
        let alarm = this
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    const PATIENCE: Patience = Patience {
        timeout: Duration::from_secs(60),
        rate: 100,
    };

    /// Seconds until a stream is given up that gives a piece of `bytes` and asks for more after `seconds`, again and
    /// again; `None`: it is not, in a day.
    async fn given_up_after(bytes: usize, seconds: u64) -> Option<u64> {
        let pace = Streams::default().begin(PATIENCE);
        let mut paced = Paced {
            body: Body::stream(Endless(bytes)),
            pace: Rc::clone(&pace),
        };
        let stream = async move {
            loop {
                let piece = poll_fn(|cx| Pin::new(&mut paced).poll_frame(cx)).await;
                assert!(piece.is_some());
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        };
        run(stream, pace).await
    }

    async fn run(stream: impl Future<Output = ()>, pace: Rc<Pace>) -> Option<u64> {
        let start = Instant::now();
        let stream = Stream {
            stream,
            pace,
            alarm: None,
        };
        let day = Duration::from_secs(24 * 3600);
        let over = tokio::time::timeout(day, stream).await;
        over.ok().map(|()| start.elapsed().as_secs())
    }

    struct Endless(usize);

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'a'; self.0])))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_a_piece_lying_is_given_up() {
        for (bytes, seconds, over) in [
            (1000, 1, None),
            (1000, 69, None),
            (1000, 71, Some(70)),
            (10, 3600, Some(60)),
            (100_000, 1000, None),
        ] {
            let row = (bytes, seconds);
            assert_eq!(given_up_after(bytes, seconds).await, over, "{row:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_silent_is_not_its_client_s_fault() {
        let pace = Streams::default().begin(PATIENCE);
        let mut paced = Paced {
            body: Body::stream(Silent),
            pace: Rc::clone(&pace),
        };
        let stream = async move {
            poll_fn(|cx| Pin::new(&mut paced).poll_frame(cx)).await;
        };
        assert_eq!(run(stream, pace).await, None);
        assert_eq!(
            run(pending(), Streams::default().begin(PATIENCE)).await,
            None
        );
    }

    struct Silent;

    impl HttpBody for Silent {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }
}
