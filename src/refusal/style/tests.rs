use std::collections::BTreeSet;
use std::path::Path;

use http_body::Body as _;
use serde_json::{Value, json};

use super::super::TABLE;
use super::*;

const WANTED: Wanted<'static> = Wanted {
    style: ErrorStyle::Envelope,
    language: Language::En,
    request_id: "r1",
    method: &Method::GET,
    version: Version::HTTP_11,
};

fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("valid JSON")
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    let value = response.headers().get(name)?;
    Some(value.to_str().expect("visible ASCII"))
}

#[test]
fn each_style_has_its_shape() {
    for (style, language, expected) in [
        (
            ErrorStyle::Envelope,
            Language::Zh,
            r#"{"code":401,"data":null,"msg":"Token已过期","error":"token_expired","request_id":"r1"}"#,
        ),
        (
            ErrorStyle::Problem,
            Language::En,
            concat!(
                r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The token has expired","#,
                r#""error":"token_expired","request_id":"r1"}"#
            ),
        ),
        (
            ErrorStyle::Detail,
            Language::En,
            r#"{"detail":"The token has expired","error":"token_expired","request_id":"r1"}"#,
        ),
    ] {
        let wanted = Wanted {
            style,
            language,
            ..WANTED
        };
        assert_eq!(body_text(Refusal::TokenExpired, &wanted), expected);
    }
}

#[test]
fn an_api_is_told_what_its_clients_know() {
    for (api, expected) in [
        (
            Api::App,
            r#"{"code":401,"data":null,"msg":"The token has expired"}"#,
        ),
        (
            Api::Session,
            r#"{"success":false,"error":"The token has expired"}"#,
        ),
        (Api::Token, r#"{"detail":"The token has expired"}"#),
        (
            Api::Supabase,
            r#"{"code":401,"error_code":"token_expired","msg":"The token has expired"}"#,
        ),
    ] {
        let wanted = Wanted {
            style: ErrorStyle::Api(api),
            ..WANTED
        };
        assert_eq!(body_text(Refusal::TokenExpired, &wanted), expected);
    }
}

#[test]
fn every_refusal_reads_as_json_in_every_style_and_language() {
    for row in TABLE {
        for style in [
            ErrorStyle::Envelope,
            ErrorStyle::Problem,
            ErrorStyle::Detail,
        ] {
            for language in [Language::En, Language::Zh] {
                let wanted = Wanted {
                    style,
                    language,
                    request_id: "\"},\"data\":\"x",
                    ..WANTED
                };
                let body = value(&body_text(row.refusal, &wanted));
                assert_eq!(body["error"], row.word);
                assert_eq!(body["request_id"], wanted.request_id);
                assert!(row.status.is_client_error() || row.status.is_server_error());
            }
        }
    }
}

#[test]
fn the_challenge_says_no_more_than_rfc_6750_asks_for() {
    let invalid = Some(r#"Bearer realm="portcullis", error="invalid_token""#);
    for (refusal, expected) in [
        (Refusal::TokenMissing, Some(r#"Bearer realm="portcullis""#)),
        (Refusal::TokenExpired, invalid),
        (Refusal::TokenSignatureInvalid, invalid),
        (Refusal::IssuerUnknown, invalid),
        (
            Refusal::RoleMissing,
            Some(r#"Bearer realm="portcullis", error="insufficient_scope""#),
        ),
        (
            Refusal::CredentialsConflict,
            Some(r#"Bearer realm="portcullis", error="invalid_request""#),
        ),
        (Refusal::OriginForbidden, None),
        (Refusal::RouteNotFound, None),
        (Refusal::KeysUnavailable, None),
    ] {
        let response = render(refusal, &WANTED);
        assert_eq!(
            header(&response, "www-authenticate"),
            expected,
            "{refusal:?}"
        );
    }
}

#[test]
fn every_401_has_a_challenge_and_nothing_is_stored() {
    for row in TABLE {
        let response = render(row.refusal, &WANTED);
        assert_eq!(response.status(), row.status);
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
        let challenged = header(&response, "www-authenticate").is_some();
        assert!(
            challenged || row.status != StatusCode::UNAUTHORIZED,
            "{}",
            row.word
        );
    }
}

#[test]
fn a_status_brings_its_fields() {
    for (refusal, name, expected) in [
        (Refusal::UpstreamUnavailable, "retry-after", Some("1")),
        (
            Refusal::WebsocketVersion,
            "sec-websocket-version",
            Some("13"),
        ),
        (Refusal::WebsocketVersion, "upgrade", Some("websocket")),
        (Refusal::WebsocketVersion, "connection", Some("upgrade")),
        (Refusal::RequestMalformed, "connection", Some("close")),
        (Refusal::BodyTooLarge, "connection", Some("close")),
        (Refusal::TokenMissing, "connection", None),
        (Refusal::TokenMissing, "retry-after", None),
        (
            Refusal::MethodRefused,
            "allow",
            Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ),
        (
            Refusal::TokenMissing,
            "content-type",
            Some("application/json; charset=utf-8"),
        ),
    ] {
        let response = render(refusal, &WANTED);
        assert_eq!(header(&response, name), expected, "{refusal:?} {name}");
    }
}

#[test]
fn http_2_gets_no_connection_fields() {
    for row in TABLE {
        let wanted = Wanted {
            version: Version::HTTP_2,
            ..WANTED
        };
        let response = render(row.refusal, &wanted);
        assert_eq!(header(&response, "connection"), None);
        assert_eq!(header(&response, "upgrade"), None);
    }
}

#[test]
fn head_has_the_length_of_the_body_that_it_does_not_get() {
    let whole = render(Refusal::RouteNotFound, &WANTED);
    let length = whole.body().size_hint().exact().expect("a full body");
    let wanted = Wanted {
        method: &Method::HEAD,
        ..WANTED
    };
    let head = render(Refusal::RouteNotFound, &wanted);
    assert!(head.body().is_end_stream());
    assert_eq!(header(&head, "content-length"), Some(&*length.to_string()));
}

#[test]
fn problems_have_their_media_type() {
    let wanted = Wanted {
        style: ErrorStyle::Problem,
        ..WANTED
    };
    let response = render(Refusal::Internal, &wanted);
    assert_eq!(
        header(&response, "content-type"),
        Some("application/problem+json")
    );
    let body = value(&body_text(Refusal::Internal, &wanted));
    assert_eq!(body["status"], json!(500));
}

/// The table as `docs/REFUSALS.md` shows it.
fn documented() -> String {
    let mut out = String::from("| `error` | status | English | 中文 |\n|---|---|---|---|\n");
    for row in TABLE {
        let status = row.status.as_u16();
        let _ = writeln!(
            out,
            "| `{}` | {status} | {} | {} |",
            row.word, row.en, row.zh
        );
    }
    out
}

#[test]
fn the_documents_show_the_table_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/REFUSALS.md");
    let page = std::fs::read_to_string(&path).expect("docs/REFUSALS.md is there");
    let (before, rest) = page.split_once("<!-- table -->\n").expect("a mark");
    let (table, after) = rest.split_once("<!-- end -->").expect("a mark");
    if table != documented() && std::env::var_os("UPDATE_DOCS").is_some() {
        let page = format!(
            "{before}<!-- table -->\n{}<!-- end -->{after}",
            documented()
        );
        std::fs::write(&path, page).expect("the page is written");
        return;
    }
    let known: BTreeSet<_> = table.lines().collect();
    let expected = documented();
    for line in expected.lines() {
        assert!(
            known.contains(line),
            "UPDATE_DOCS=1 cargo test documents; missing: {line}"
        );
    }
    assert_eq!(table, expected, "UPDATE_DOCS=1 cargo test documents");
}
