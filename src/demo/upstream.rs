//! The demo's upstream as a server: HTTP/1.1 with upgrades, on one thread. It believes whatever stands in
//! the headers, as such services do; the gateway in front is what makes that safe.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use super::calls::Service;
use super::studio::Studio;

/// Gives out the tokens that the page tries: a JSON object of names and tokens, made anew for each call.
pub type Desk = Box<dyn Fn() -> serde_json::Value + Send>;

/// Serves until `shutdown` is ready; then every connection is dropped where it stands.
pub async fn serve(listener: TcpListener, desk: Desk, shutdown: impl Future<Output = ()>) {
    let service = Rc::new(Service {
        studio: Rc::new(Studio::default()),
        desk,
    });
    // A set of its own: what the calls spawn ends with it.
    LocalSet::new()
        .run_until(async {
            let mut connections = JoinSet::new();
            let mut shutdown = pin!(shutdown);
            loop {
                tokio::select! {
                    () = &mut shutdown => return,
                    Some(_) = connections.join_next() => {}
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            connections.spawn_local(connection(stream, Rc::clone(&service)));
                        }
                        // Out of file descriptors, most likely: the others must end first.
                        Err(error) => {
                            tracing::warn!(%error, "the demo could not accept a connection");
                            tokio::task::yield_now().await;
                        }
                    },
                }
            }
        })
        .await;
}

async fn connection(stream: TcpStream, service: Rc<Service>) {
    // Small events must not wait for each other.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let service = Rc::clone(&service);
        async move { Ok::<_, Infallible>(service.call(request).await) }
    });
    // A client that goes away in the middle is everyday life here.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await;
}
