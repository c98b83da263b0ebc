//! Event streams of the demo's upstream: one that does the work of an order, one that only ticks.
//! Both stop when their reader is gone: the body is the receiving end of a channel, and its drop is seen
//! at once, in the middle of a step too.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::studio::{Order, Studio, Work};
use crate::body::{Body, BodyError};

/// Works on `order` for as long as somebody reads the stream: `start`, a `progress` for each step, `complete`
/// with the picture. A bad order is an `error` event, as the client reads events and not statuses.
pub fn generate(studio: &Rc<Studio>, order: Result<Order, String>) -> Response<Body> {
    match order {
        Ok(order) => {
            let work = studio.open(order);
            stream(async move |events| generate_into(work, &events).await)
        }
        Err(message) => stream(async move |events| {
            let refused = json!({ "error": "invalid_input", "message": message });
            send(&events, "error", None, &refused).await
        }),
    }
}

/// Ticks until the reader leaves or `last` is reached, and goes on counting after `last_seen`.
pub fn ticks(studio: &Rc<Studio>, last_seen: u64, last: u64, pause: Duration) -> Response<Body> {
    let studio = Rc::clone(studio);
    stream(async move |events| {
        for number in last_seen.saturating_add(1)..=last {
            let tick = json!({ "n": number, "jobs": studio.stats() });
            send(&events, "tick", Some(number), &tick).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    })
}

/// The reader left.
struct Gone;

async fn generate_into(work: Work, events: &mpsc::Sender<Bytes>) -> Result<(), Gone> {
    let job = Rc::clone(work.job());
    let start = json!({ "task_id": job.id, "prompt": job.order.prompt, "steps": job.order.steps });
    send(events, "start", None, &start).await?;
    while let Some(progress) = work.step().await {
        let done = json!({
            "task_id": job.id,
            "step": progress.step,
            "of": progress.of,
            "percent": progress.percent,
        });
        send(events, "progress", None, &done).await?;
    }
    match work.finish() {
        Ok((filename, image)) => {
            let complete = json!({
                "task_id": job.id,
                "filename": filename,
                "bytes": image.len(),
                "image": format!("data:image/png;base64,{}", STANDARD.encode(&image)),
            });
            send(events, "complete", None, &complete).await
        }
        Err(error) => {
            let failed = json!({ "error": "drawing_failed", "message": error.to_string() });
            send(events, "error", None, &failed).await
        }
    }
}

/// A response whose events `write` sends; `write` is dropped where it stands when the reader leaves.
fn stream<W>(write: W) -> Response<Body>
where
    W: AsyncFnOnce(mpsc::Sender<Bytes>) -> Result<(), Gone> + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let watcher = sender.clone();
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = watcher.closed() => {}
            _ = write(sender) => {}
        }
    });
    let mut response = Response::new(Body::stream(Events { receiver }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn send(
    events: &mpsc::Sender<Bytes>,
    name: &str,
    id: Option<u64>,
    value: &Value,
) -> Result<(), Gone> {
    let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
    let event = format!("{id}event: {name}\ndata: {value}\n\n");
    events.send(event.into()).await.map_err(|_| Gone)
}

/// The reading end, as a body.
struct Events {
    receiver: mpsc::Receiver<Bytes>,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.receiver
            .poll_recv(cx)
            .map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::task::LocalSet;

    use super::*;

    fn order(steps: u32, delay_ms: u64) -> Result<Order, String> {
        Ok(Order {
            prompt: "hills".to_owned(),
            steps,
            delay_ms,
        })
    }

    async fn text(response: Response<Body>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_order_gives_a_start_each_step_and_the_picture() {
        LocalSet::new()
            .run_until(async {
                let text = text(generate(&Rc::default(), order(3, 0))).await;
                let names: Vec<&str> = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("event: "))
                    .collect();
                assert_eq!(
                    names,
                    ["start", "progress", "progress", "progress", "complete"]
                );
                assert!(text.contains("data:image/png;base64,"));
            })
            .await;
    }

    #[tokio::test]
    async fn a_bad_order_is_an_error_event() {
        LocalSet::new()
            .run_until(async {
                let text = text(generate(&Rc::default(), Order::parse(b"{}"))).await;
                assert!(text.starts_with("event: error\ndata: {\"error\":\"invalid_input\""));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_stops_the_work_in_the_middle_of_a_step() {
        LocalSet::new()
            .run_until(async {
                let studio = Rc::new(Studio::default());
                let mut body = generate(&studio, order(100, 60_000)).into_body();
                body.frame().await.unwrap().unwrap();
                assert_eq!(studio.stats().running, 1);
                drop(body);
                while studio.stats().running > 0 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(studio.stats().cancelled, 1);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_go_on_after_the_last_one_seen() {
        LocalSet::new()
            .run_until(async {
                let text = text(ticks(&Rc::default(), 7, 9, Duration::from_secs(1))).await;
                assert!(text.starts_with("id: 8\nevent: tick\n"));
                assert!(text.contains("id: 9\n") && !text.contains("id: 10\n"));
            })
            .await;
    }
}
