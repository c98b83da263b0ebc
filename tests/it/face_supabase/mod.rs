//! The Supabase API by its bytes: keys, origins, the two shapes of failures, and each failure of its tables. The real
//! clients drive it in `tests/outside`.

mod admin;
mod failures;
mod keys;
mod users;

use serde_json::json;

use crate::harness::caller::{Ask, Told, accounts};
use crate::harness::{Gateway, Setup};

const PASSWORD: &str = "correct horse battery";
const ANON: &str = "sb_publishable_of_these_tests";
const SERVICE: &str = "sb_secret_of_these_tests_only";
const LEGACY_SERVICE: &str = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZV9yb2xlIn0.c2lnbmF0dXJl";

/// A gateway that never asks to wait.
fn setup(lines: &str) -> Setup {
    limited("free = 1000\nper_address = 0", lines)
}

/// The same with these limits.
fn limited(attempts: &str, lines: &str) -> Setup {
    let accounts = accounts(lines).piece(&format!("[accounts.attempts]\n{attempts}"));
    accounts.piece(&format!(
        "[api.supabase]\nmount = \"/auth/v1\"\nanon_keys = [\"{ANON}\"]\n\
         service_keys = [\"{SERVICE}\", \"{LEGACY_SERVICE}\"]"
    ))
}

async fn start() -> Gateway {
    Gateway::start(&setup("")).await
}

/// A call as the clients make it.
fn ask(line: &str) -> Ask {
    let (method, path) = line.split_once(' ').unwrap();
    Ask::line(&format!("{method} /auth/v1{path}"))
        .field("apikey", ANON)
        .field("x-supabase-api-version", "2024-01-01")
}

/// The same with a service key in both places.
fn admin(line: &str) -> Ask {
    let (method, path) = line.split_once(' ').unwrap();
    Ask::line(&format!("{method} /auth/v1{path}"))
        .field("apikey", SERVICE)
        .field("x-supabase-api-version", "2024-01-01")
        .bearer(SERVICE)
}

async fn sign_up(gateway: &Gateway, email: &str) -> Told {
    let body = json!({"email": email, "password": PASSWORD});
    let told = ask("POST /signup").json(&body).to(gateway).await;
    assert_eq!(told.status(), 200, "{}", told.json);
    told
}

/// A failure's status and code; it is readable to every client.
fn failed(told: &Told) -> (u16, &str) {
    assert_eq!(
        told.field("x-supabase-api-version"),
        Some("2024-01-01"),
        "{}",
        told.json
    );
    assert_eq!(told.field("x-sb-error-code"), Some(told.text("code")));
    assert_eq!(told.field("access-control-allow-origin"), Some("*"));
    assert!(!told.text("message").is_empty());
    (told.status(), told.text("code"))
}
