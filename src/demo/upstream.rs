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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::{SinkExt, StreamExt};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    /// Serves while `talk` talks, and then must end by itself.
    async fn with_upstream(talk: impl AsyncFnOnce(SocketAddr)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let desk: Desk = Box::new(|| json!({ "token": "a.b.c" }));
        let served = serve(listener, desk, async {
            let _ = stopped.await;
        });
        tokio::join!(served, async {
            talk(address).await;
            stop.send(()).unwrap();
        });
    }

    /// Sends a request on a connection of its own and reads the answer until it holds `until`.
    async fn send(address: SocketAddr, request: &str, until: &str) -> (TcpStream, String) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(until) {
            assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0, "no {until}");
        }
        (socket, String::from_utf8(answer).unwrap())
    }

    fn post(path: &str, body: &Value) -> String {
        let body = body.to_string();
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nhost: demo\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_seen_in_the_counts() {
        with_upstream(async |address| {
            let order = json!({ "prompt": "hills", "delay_ms": 60_000 });
            let request = post("/api/v1/faceflip/generate/stream", &order);
            let (client, _) = send(address, &request, "event: start").await;
            drop(client);
            let counts = "GET /api/v1/stats HTTP/1.1\r\nhost: demo\r\n\r\n";
            while !send(address, counts, "}")
                .await
                .1
                .contains(r#""cancelled":1"#)
            {}
        })
        .await;
    }

    #[tokio::test]
    async fn a_job_is_followed_over_a_socket_and_downloaded() {
        with_upstream(async |address| {
            let order = json!({ "prompt": "hills", "steps": 2, "delay_ms": 20 });
            let (_, answer) = send(address, &post("/api/generate-mod", &order), "}").await;
            let job: Value =
                serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            let stream = TcpStream::connect(address).await.unwrap();
            let url = format!("ws://{address}/ws/realtime/a/b");
            let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
            let subscribe = json!({ "type": "subscribe", "task_id": job["job_id"] });
            socket
                .send(Message::text(subscribe.to_string()))
                .await
                .unwrap();
            let filename = loop {
                let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
                let update: Value = serde_json::from_str(&text).unwrap();
                if let Some(filename) = update["filename"].as_str() {
                    break filename.to_owned();
                }
            };
            let request = format!(
                "GET /downloads/{filename} HTTP/1.1\r\nhost: demo\r\nrange: bytes=1-3\r\n\r\n"
            );
            let (_, answer) = send(address, &request, "PNG").await;
            assert!(answer.starts_with("HTTP/1.1 206 "), "{answer}");
        })
        .await;
    }

    #[tokio::test]
    async fn calls_answer_as_their_method_and_path_say() {
        with_upstream(async |address| {
            for (line, status) in [
                ("GET /", "200"),
                ("HEAD /", "200"),
                ("GET /health", "200"),
                ("GET /demo/token", "200"),
                ("GET /api/status/none", "404"),
                ("GET /downloads/none", "404"),
                ("GET /nowhere", "404"),
                ("DELETE /health", "405"),
                ("GET /api/generate-mod", "405"),
                ("GET /ws/test/a", "426"),
            ] {
                let request = format!("{line} HTTP/1.1\r\nhost: demo\r\n\r\n");
                let (_, answer) = send(address, &request, "\r\n\r\n").await;
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{line}: {answer}"
                );
            }
        })
        .await;
    }
}
