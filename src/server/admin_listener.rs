//! The admin listener's sockets; what is answered there is `admin`'s.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinHandle;

use crate::admin;
use crate::admin::streams::Live;
use crate::faces;
use crate::server::Station;

/// Serves probes, metrics and the document of the APIs until the process ends.
pub async fn serve(station: Arc<Station>, listener: tokio::net::TcpListener) {
    let mut seats = Seats::default();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let station = Arc::clone(&station);
        seats.give(tokio::task::spawn_local(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let station = Arc::clone(&station);
                async move {
                    if admin::streams::is_ours(request.uri().path()) {
                        let gate = station.gate.load_full();
                        let live = Live {
                            streams: &station.resources.streams,
                            bans: &station.resources.bans,
                            kept: station.resources.kept_bans.as_deref(),
                            sink: &gate.sink(),
                            token: gate.config().admin.token.as_ref(),
                        };
                        return Ok(admin::streams::respond(live, request).await);
                    }
                    let document = || faces::document(station.gate.load().config());
                    Ok::<_, Infallible>(admin::respond(&station.admin, &request, &document))
                }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(socket), service);
            // A scraper that failed will come again.
            let _ = served.await;
        }));
    }
}

/// The connections that are served. Clients that are slow, or say nothing, must neither pile up nor keep a probe out: where
/// all seats are taken, whoever has sat for longest goes.
#[derive(Default)]
struct Seats(VecDeque<JoinHandle<()>>);

impl Seats {
    fn give(&mut self, connection: JoinHandle<()>) {
        self.0.retain(|seated| !seated.is_finished());
        if self.0.len() >= SEATS
            && let Some(longest) = self.0.pop_front()
        {
            longest.abort();
        }
        self.0.push_back(connection);
    }
}

const SEATS: usize = 64;
