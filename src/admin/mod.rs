//! The admin listener's service: `/healthz` (alive), `/readyz` (each part named), `/metrics`. It reads and
//! changes nothing. A page in a browser must not get at it: see `check_caller`.

use std::net::Ipv6Addr;

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::observe::exposition;
use crate::observe::metrics::Metrics;
use crate::observe::readiness::Board;
use crate::observe::request_id::RequestId;
use crate::refusal::style::{ErrorStyle, Wanted, render};
use crate::refusal::{Language, Refusal};

/// What the admin listener shows.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the types say it")]
pub struct Admin {
    pub board: Board,
    pub metrics: Metrics,
}

/// Answers one request of the admin listener.
pub fn respond<B>(admin: &Admin, request: &Request<B>) -> Response<Body> {
    let answer = check_caller(request).and_then(|()| match request.uri().path() {
        "/metrics" => {
            let page = admin.metrics.render();
            read_only(request).map(|()| page_of(exposition::CONTENT_TYPE, StatusCode::OK, page))
        }
        _ => probe(&admin.board, request).unwrap_or(Err(Refusal::RouteNotFound)),
    });
    finish(request, answer)
}

/// Answers a probe on the public listener (`public_probes`), where any `Host` may ask. `None`: the path is
/// no probe's.
pub fn respond_to_probe<B>(board: &Board, request: &Request<B>) -> Option<Response<Body>> {
    probe(board, request).map(|answer| finish(request, answer))
}

fn probe<B>(board: &Board, request: &Request<B>) -> Option<Result<Response<Body>, Refusal>> {
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()),
        "/readyz" => match board.render() {
            (true, text) => (StatusCode::OK, text),
            (false, text) => (StatusCode::SERVICE_UNAVAILABLE, text),
        },
        _ => return None,
    };
    Some(read_only(request).map(|()| page_of(JSON, status, text)))
}

fn read_only<B>(request: &Request<B>) -> Result<(), Refusal> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::MethodRefused),
    }
}

/// Refuses what a page in a browser could send. After DNS rebinding such a page reaches this listener under
/// its own host name, so that only addresses and `localhost` are served; and whatever a page sends across
/// origins names its `Origin`, which no probe and no scraper does.
fn check_caller<B>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return Err(Refusal::OriginForbidden);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(authority(host)?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Refusal::HostInvalid),
    };
    // HTTP/2 and absolute-form targets name the host in the target; where both stand, both must be good.
    let targeted = request.uri().authority().cloned();
    if named.is_none() && targeted.is_none() {
        return Err(Refusal::HostInvalid);
    }
    if named.iter().chain(&targeted).all(is_local) {
        Ok(())
    } else {
        Err(Refusal::HostUnknown)
    }
}

fn authority(host: &HeaderValue) -> Result<Authority, Refusal> {
    Authority::try_from(host.as_bytes()).map_err(|_| Refusal::HostInvalid)
}

/// Whether it names an address or `localhost`, with or without a port, and nothing else.
fn is_local(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::Ipv4Addr>().is_ok()
        }
    }
}

fn page_of(content_type: &'static str, status: StatusCode, text: String) -> Response<Body> {
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_LENGTH, length);
    response
}

/// The answer or the refusal; to HEAD without its body.
fn finish<B>(request: &Request<B>, answer: Result<Response<Body>, Refusal>) -> Response<Body> {
    match answer {
        Ok(mut response) => {
            if request.method() == Method::HEAD {
                *response.body_mut() = Body::Empty;
            }
            response
        }
        Err(refusal) => {
            let id = RequestId::mint();
            let wanted = Wanted {
                style: ErrorStyle::Envelope,
                language: Language::En,
                request_id: id.as_str(),
                method: request.method(),
                version: request.version(),
            };
            render(refusal, &wanted)
        }
    }
}

const JSON: &str = "application/json; charset=utf-8";

#[cfg(test)]
mod tests;
