//! The calls of the demo's upstream: which path does what.

use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::studio::{Job, Order, Studio};
use super::upstream::Desk;
use super::{answer, downloads, events, socket};
use crate::body::Body;

/// What every call may use.
pub struct Service {
    /// Jobs and pictures.
    pub studio: Rc<Studio>,
    /// Who gives out tokens to try.
    pub desk: Desk,
}

impl Service {
    /// Answers one request.
    pub async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let method = request.method().clone();
        let get = method == Method::GET || method == Method::HEAD;
        match segments.as_slice() {
            ["ws", "ws", "simple", _, ..] | ["ws", "test", _, ..] if get => {
                socket::open(request, socket::echo)
            }
            ["ws", "realtime" | "members", _, ..] if get => {
                let studio = Rc::clone(&self.studio);
                let seen = seen(&request);
                socket::open(request, async move |socket| {
                    socket::realtime(socket, studio, seen).await;
                })
            }
            ["api", "v1", "faceflip", "generate", "stream"] if method == Method::POST => {
                self.generate(request).await
            }
            ["api", "generate-mod"] if method == Method::POST => self.start_job(request).await,
            ["api", "v1", "faceflip", "generate", "stream"] | ["api", "generate-mod"] => {
                answer::method_not_allowed(&Method::POST)
            }
            _ if get => self.look(&segments, &request),
            _ => answer::method_not_allowed(&Method::GET),
        }
    }

    /// The calls that change nothing.
    fn look(&self, segments: &[&str], request: &Request<Incoming>) -> Response<Body> {
        let ok = StatusCode::OK;
        match segments {
            [""] => answer::bytes(ok, "text/html; charset=utf-8", PAGE),
            ["demo", "token"] => answer::json(ok, &(self.desk)()),
            ["health"] => answer::json(ok, &json!({ "status": "ok" })),
            ["api", "v1", "stats"] => answer::json(ok, &self.studio.stats()),
            ["api", "v1", "whoami"] => answer::json(ok, &seen(request)),
            ["api", "v1", "events"] => self.ticks(request),
            ["api", "status", id] => match self.studio.job(id) {
                Some(job) => answer::json(ok, &status(&job)),
                None => answer::error(StatusCode::NOT_FOUND, "no such job"),
            },
            ["downloads", name] => match self.studio.file(name) {
                Some(file) => downloads::serve(name, &file, request.headers()),
                None => answer::error(StatusCode::NOT_FOUND, "no such file"),
            },
            _ => answer::error(StatusCode::NOT_FOUND, "no such call"),
        }
    }

    async fn generate(&self, request: Request<Incoming>) -> Response<Body> {
        match read(request).await {
            Ok(body) => events::generate(&self.studio, Order::parse(&body)),
            Err(response) => response,
        }
    }

    async fn start_job(&self, request: Request<Incoming>) -> Response<Body> {
        let order = match read(request).await.map(|body| Order::parse(&body)) {
            Ok(Ok(order)) => order,
            Ok(Err(message)) => return answer::error(StatusCode::UNPROCESSABLE_ENTITY, &message),
            Err(response) => return response,
        };
        let work = self.studio.open(order);
        let accepted = answer::json(StatusCode::ACCEPTED, &status(work.job()));
        // Nobody waits for this one: it runs to its end whoever leaves.
        tokio::task::spawn_local(async move {
            while work.step().await.is_some() {}
            if let Err(error) = work.finish() {
                tracing::warn!(%error, "the demo could not draw a picture");
            }
        });
        accepted
    }

    fn ticks(&self, request: &Request<Incoming>) -> Response<Body> {
        let number = |name: &str| {
            let query = request.uri().query().unwrap_or_default();
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .and_then(|text| text.parse::<u64>().ok())
        };
        let last_seen = request
            .headers()
            .get("last-event-id")
            .and_then(|id| id.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let pause = Duration::from_millis(number("interval_ms").unwrap_or(1_000).clamp(10, 60_000));
        let last = number("count").unwrap_or(u64::MAX);
        events::ticks(&self.studio, last_seen, last, pause)
    }
}

/// A job as its calls show it.
pub fn status(job: &Job) -> Value {
    let mut value = json!(job.progress());
    value["job_id"] = json!(job.id);
    value["prompt"] = json!(job.order.prompt);
    value
}

/// What reached this service of a request: its line, the headers that tell who calls and whence, and the
/// names of those that hold a credential, which a gateway should have kept to itself.
fn seen<B>(request: &Request<B>) -> Value {
    let version = match request.version() {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    };
    let told: serde_json::Map<String, Value> = request
        .headers()
        .keys()
        .filter(|name| name.as_str().starts_with("x-") || *name == HOST || *name == "forwarded")
        .filter(|name| !CREDENTIALS.contains(&name.as_str()))
        .map(|name| (name.to_string(), joined(request.headers(), name.as_str())))
        .collect();
    let credentials: Vec<&str> = CREDENTIALS
        .iter()
        .copied()
        .filter(|name| request.headers().contains_key(*name))
        .collect();
    json!({
        "request_line": format!("{} {} {version}", request.method(), request.uri()),
        "headers": told,
        "credentials_that_came_through": credentials,
    })
}

fn joined(headers: &HeaderMap, name: &str) -> Value {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    values.join(", ").into()
}

async fn read(request: Request<Incoming>) -> Result<bytes::Bytes, Response<Body>> {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large or broke off",
        )),
    }
}

const PAGE: &str = include_str!("page.html");
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "token", "x-session-token"];
const MAX_BODY: usize = 64 * 1024;
