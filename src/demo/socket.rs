//! WebSockets of the demo's upstream: one that echoes, one that tells how jobs go on.

use std::rc::Rc;

use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::answer;
use super::calls::status;
use super::studio::{Job, Status, Studio};
use crate::body::Body;

/// A socket that was opened.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers a handshake (RFC 6455 §4.2) and lets `talk` have the socket. The first subprotocol that the
/// client offers is taken.
pub fn open<T>(mut request: Request<Incoming>, talk: T) -> Response<Body>
where
    T: AsyncFnOnce(Socket) + 'static,
{
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return answer::error(
            StatusCode::UPGRADE_REQUIRED,
            "a WebSocket handshake is needed",
        );
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return answer::error(StatusCode::BAD_REQUEST, "this is no WebSocket handshake");
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = first_protocol(&request) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        if let Ok(upgraded) = upgrade.await {
            let io = TokioIo::new(upgraded);
            talk(WebSocketStream::from_raw_socket(io, Role::Server, None).await).await;
        }
    });
    response
}

/// Gives every message back as it came.
pub async fn echo(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        let echoed = message.is_text() || message.is_binary();
        if echoed && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Echoes JSON in an envelope; `{"type":"subscribe","task_id":…}` gives that job's changes until it ends,
/// `{"type":"whoami"}` what this service was told of the caller.
pub async fn realtime(mut socket: Socket, studio: Rc<Studio>, seen: Value) {
    let (sender, mut updates) = mpsc::channel::<Value>(16);
    loop {
        let reply = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => reply(&text, &studio, &seen, &sender),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            Some(update) = updates.recv() => update,
        };
        let text = Message::text(reply.to_string());
        if socket.send(text).await.is_err() {
            return;
        }
    }
}

fn reply(text: &str, studio: &Studio, seen: &Value, updates: &mpsc::Sender<Value>) -> Value {
    let Ok(message) = serde_json::from_str::<Value>(text) else {
        return json!({ "type": "error", "error": "not_json" });
    };
    match message["type"].as_str() {
        Some("ping") => json!({ "type": "pong" }),
        Some("whoami") => json!({ "type": "whoami", "seen": seen }),
        Some("subscribe") => {
            let id = message["task_id"].as_str().unwrap_or_default();
            let Some(job) = studio.job(id) else {
                return json!({ "type": "error", "error": "task_unknown", "task_id": id });
            };
            let subscribed = update("subscribed", &job);
            tokio::task::spawn_local(follow(job, updates.clone()));
            subscribed
        }
        _ => json!({ "type": "echo", "data": message }),
    }
}

/// Sends a job's changes until it ends or the socket is gone.
async fn follow(job: Rc<Job>, updates: mpsc::Sender<Value>) {
    let mut changes = job.watch();
    while job.progress().status == Status::Running {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = updates.closed() => return,
        }
        if updates.send(update("task_update", &job)).await.is_err() {
            return;
        }
    }
}

fn update(kind: &str, job: &Job) -> Value {
    let mut value = status(job);
    value["type"] = json!(kind);
    value["task_id"] = json!(job.id);
    value
}

fn first_protocol<B>(request: &Request<B>) -> Option<HeaderValue> {
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL)?;
    let first = offered.to_str().ok()?.split(',').next()?.trim();
    HeaderValue::from_str(first).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::studio::Order;

    #[tokio::test]
    async fn messages_are_answered_by_their_type() {
        let (updates, _kept) = mpsc::channel(1);
        let studio = Studio::default();
        for (text, expected) in [
            ("{", json!({ "type": "error", "error": "not_json" })),
            (r#"{"type":"ping"}"#, json!({ "type": "pong" })),
            (r#"[1]"#, json!({ "type": "echo", "data": [1] })),
            (
                r#"{"type":"subscribe","task_id":"x"}"#,
                json!({ "type": "error", "error": "task_unknown", "task_id": "x" }),
            ),
        ] {
            assert_eq!(reply(text, &studio, &Value::Null, &updates), expected);
        }
    }

    #[tokio::test]
    async fn a_subscription_follows_a_job_to_its_end() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let studio = Rc::new(Studio::default());
                let order = Order {
                    prompt: "hills".to_owned(),
                    steps: 2,
                    delay_ms: 0,
                };
                let work = studio.open(order);
                let (sender, mut updates) = mpsc::channel(1);
                tokio::task::spawn_local(follow(Rc::clone(work.job()), sender));
                tokio::task::spawn_local(async move {
                    while work.step().await.is_some() {}
                    work.finish().unwrap();
                });
                let mut last = Value::Null;
                while let Some(update) = updates.recv().await {
                    last = update;
                }
                assert_eq!(last["status"], "finished");
                assert_eq!(last["percent"], 100);
            })
            .await;
    }
}
