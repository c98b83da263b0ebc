//! An upstream that answers what a closure says, in each protocol.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::peer::Duplex;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Sent = BoxBody<Bytes, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Response<Sent>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

pub struct Upstream {
    /// How a configuration names it.
    pub url: String,
    task: JoinHandle<()>,
}

/// What it speaks.
#[derive(Clone, Copy)]
pub enum Speaks {
    Http1,
    Http2,
}

impl Upstream {
    /// HTTP/1.1 over TCP.
    pub async fn http1<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Sent>> + Send + 'static,
    {
        Self::tcp(handler(answer), Speaks::Http1, None).await
    }

    /// HTTP/2 with prior knowledge.
    pub async fn http2<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Sent>> + Send + 'static,
    {
        Self::tcp(handler(answer), Speaks::Http2, None).await
    }

    /// The same over TLS.
    pub async fn tls<F, A>(speaks: Speaks, config: Arc<rustls::ServerConfig>, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Sent>> + Send + 'static,
    {
        Self::tcp(handler(answer), speaks, Some(config)).await
    }

    /// HTTP/1.1 over a unix socket.
    pub async fn unix<F, A>(path: &Path, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Sent>> + Send + 'static,
    {
        let handler = handler(answer);
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, Speaks::Http1, Arc::clone(&handler)));
            }
        });
        Self {
            url: format!("unix:{}", path.display()),
            task,
        }
    }

    async fn tcp(handler: Handler, speaks: Speaks, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (handler, tls) = (Arc::clone(&handler), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, speaks, handler).await,
                        Some(tls) => {
                            if let Ok(socket) = TlsAcceptor::from(tls).accept(socket).await {
                                serve(socket, speaks, handler).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            url: format!("{scheme}://localhost:{}", address.port()),
            task,
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn handler<F, A>(answer: F) -> Handler
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Sent>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

async fn serve(socket: impl Duplex + 'static, speaks: Speaks, handler: Handler) {
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let io = TokioIo::new(socket);
    let _ = match speaks {
        Speaks::Http1 => {
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            connection.with_upgrades().await
        }
        Speaks::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        }
    };
}

pub fn full(bytes: impl Into<Bytes>) -> Sent {
    Full::new(bytes.into()).map_err(Into::into).boxed()
}

pub fn empty() -> Sent {
    Empty::new().map_err(Into::into).boxed()
}

/// A body that is sent piece by piece.
pub struct Pieces(mpsc::Sender<Result<Frame<Bytes>, BoxError>>);

struct Channel(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

/// A body whose pieces are sent from elsewhere; it takes one at a time.
pub fn channel() -> (Pieces, Sent) {
    let (sender, receiver) = mpsc::channel(1);
    (Pieces(sender), BodyExt::boxed(Channel(receiver)))
}

impl Pieces {
    /// `false` when nobody wants it any more.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        super::soon(self.0.send(Ok(Frame::data(bytes.into()))))
            .await
            .is_ok()
    }

    pub async fn trailers(&self, trailers: HeaderMap) {
        let _ = super::soon(self.0.send(Ok(Frame::trailers(trailers)))).await;
    }

    /// Breaks the body off.
    pub async fn fail(&self) {
        let _ = super::soon(self.0.send(Err("broken on purpose".into()))).await;
    }

    /// Waits until nobody wants the body any more.
    pub async fn unwanted(&self) {
        super::soon(self.0.closed()).await;
    }

    /// Sends until the other side takes no more, or enough; answers how many pieces it took.
    pub fn try_send(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.try_send(Ok(Frame::data(bytes.into()))).is_ok()
    }
}

impl Body for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}
