//! The gateway's own calls as a table, for the document; where they stand, the configuration says.

use http::Method;
use schemars::JsonSchema;
use serde_json::Value;

use super::{Renewed, TicketGiven, TicketWish, Verified};
use crate::config::{Config, OwnCall, PathPattern, Segment, Target};
use crate::openapi::document::{Credential, Document, Part};
use crate::openapi::{Answer, Row, Takes, Who, schema};
use crate::refusal::style::ErrorStyle;

/// Where which calls stand, for the document.
pub fn describe(config: &Config, document: &mut Document) {
    let part = Part {
        tag: "gateway",
        what: "The gateway itself",
        mount: &config.server.mount,
        credentials: &[Credential::Bearer],
        failure: match config.errors.style {
            ErrorStyle::Envelope | ErrorStyle::Api(_) => schema::<Envelope>(),
            ErrorStyle::Problem => schema::<Problem>(),
            ErrorStyle::Detail => schema::<Detail>(),
        },
    };
    for route in &config.own {
        let (Target::Own(call), Some(path)) = (&route.target, literal(&route.path)) else {
            continue;
        };
        let Some(row) = CALLS.iter().find(|row| row.op == *call) else {
            continue;
        };
        let part = Part {
            mount: &path,
            ..part
        };
        document.add(&part, std::slice::from_ref(row));
    }
}

/// The one path of a pattern without parameters.
fn literal(pattern: &PathPattern) -> Option<String> {
    let segments = pattern.0.iter().map(|segment| match segment {
        Segment::Literal(text) => Some(format!("/{text}")),
        Segment::One(_) | Segment::Rest(_) => None,
    });
    segments.collect()
}

/// The calls, each at the path that the configuration gives it.
static CALLS: [Row<OwnCall>; 6] = [
    Row {
        op: OwnCall::Healthz,
        method: Method::GET,
        path: "",
        summary: "Whether the process is alive",
        who: Who::Anybody,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "It is",
            body: Some(schema::<Health>()),
        }],
        fails: &[],
    },
    Row {
        op: OwnCall::Readyz,
        method: Method::GET,
        path: "",
        summary: "Whether every part can serve",
        who: Who::Anybody,
        takes: Takes::Nothing,
        params: &[],
        answers: &[
            Answer {
                status: 200,
                what: "Every part can",
                body: Some(schema::<Readiness>()),
            },
            Answer {
                status: 503,
                what: "Some part cannot",
                body: Some(schema::<Readiness>()),
            },
        ],
        fails: &[],
    },
    Row {
        op: OwnCall::Verify,
        method: Method::GET,
        path: "",
        summary: "Who calls, for a proxy that asks before it passes a request on",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The identity; its headers stand beside it",
            body: Some(schema::<Verified<'static>>()),
        }],
        fails: &[],
    },
    Row {
        op: OwnCall::Tickets,
        method: Method::POST,
        path: "",
        summary: "A ticket, which stands for the token in the URL of one stream",
        who: Who::Holder,
        takes: Takes::Json(schema::<TicketWish>()),
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The ticket",
            body: Some(schema::<TicketGiven<'static>>()),
        }],
        fails: &[400, 429, 503],
    },
    Row {
        op: OwnCall::Renew,
        method: Method::POST,
        path: "",
        summary: "Lets the streams of the session go on until the token ends that the call is made with",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "How many there are, and until when",
            body: Some(schema::<Renewed>()),
        }],
        fails: &[],
    },
    Row {
        op: OwnCall::Jwks,
        method: Method::GET,
        path: "",
        summary: "The public keys of what the gateway signs (RFC 7517)",
        who: Who::Anybody,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The keys",
            body: Some(schema::<Jwks>()),
        }],
        fails: &[404],
    },
];

#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct Health {
    status: String,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct Readiness {
    ready: bool,
    parts: Vec<ReadinessPart>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct ReadinessPart {
    name: String,
    ready: bool,
    reason: Option<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct Jwks {
    keys: Vec<serde_json::Map<String, Value>>,
}

/// A failure in the style `envelope`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct Envelope {
    code: u16,
    data: (),
    msg: String,
    error: String,
    request_id: String,
}

/// A failure in the style `problem`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct Problem {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    error: String,
    request_id: String,
}

/// A failure in the style `detail`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct Detail {
    detail: String,
    error: String,
    request_id: String,
}
