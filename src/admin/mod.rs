//! The admin listener's service: `/healthz` (alive), `/readyz` (each part named), `/metrics`, `/openapi.json` and
//! `/docs` to browse it (`docs.rs`), which change nothing; and live streams, for the holder of a token (`streams.rs`). A page
//! in a browser must not get at it: see `check_caller`.

mod docs;
pub mod streams;

use std::net::Ipv6Addr;

use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Request, Response, StatusCode};

use crate::body::Body;
use crate::faces::page;
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

/// Answers one request of the admin listener. `document`: makes the OpenAPI document.
pub fn respond<B>(
    admin: &Admin,
    request: &Request<B>,
    document: &dyn Fn() -> serde_json::Value,
) -> Response<Body> {
    let answer = check_caller(request).and_then(|()| match request.uri().path() {
        "/metrics" => {
            let text = admin.metrics.render();
            Ok(page::page(exposition::CONTENT_TYPE, StatusCode::OK, text))
        }
        "/healthz" => Ok(page::healthz()),
        "/readyz" => Ok(page::readyz(&admin.board)),
        "/openapi.json" => Ok(page::json(StatusCode::OK, &document())),
        path => docs::find(path).ok_or(Refusal::RouteNotFound),
    });
    let answer = answer.and_then(|page| page::read_only(request.method()).map(|()| page));
    finish(request, answer)
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

/// The answer or the refusal; to HEAD without its body.
fn finish<B>(request: &Request<B>, answer: Result<Response<Body>, Refusal>) -> Response<Body> {
    match answer {
        Ok(response) => page::for_method(request.method(), response),
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

#[cfg(test)]
mod tests;
