//! The security catalogue against the assembled gateway: what an attacker sends, what he is told, and what
//! the upstream receives of it. Every row that is refused ends with an upstream that has heard nothing; every
//! row that passes ends with one of each identity header, from verified claims or not there at all.

mod floods;
mod framing;
mod headers;
mod http2;
mod paths;
mod places;
pub mod rawh2;
mod stalls;
mod streams;
mod tokens;

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::peer::{Answer, Head};
use crate::harness::setup::token_with;
use crate::harness::{Gateway, Peer, Setup};

/// A gateway with a route of each kind, before an upstream that keeps every byte.
struct Siege {
    gateway: Gateway,
    received: Received,
}

/// The heads and bodies that the upstream was sent.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<(Head, String)>>>);

/// A request as it goes over the wire, and what is to become of it: `401 token_missing` (status and word), or
/// `200 user`, `200 guest`, `200 invalid_token`: as whom the upstream sees the caller.
type Row<'r> = (&'r str, String, &'r str);

/// The user's identity headers, as the claims of `user()` say.
const USER: &[(&str, &str)] = &[
    ("x-user-id", "u1"),
    ("x-user-email", "u1@example.test"),
    ("x-user-role", "member"),
    ("x-user-anonymous", "false"),
    ("x-session-id", "s1"),
];

const IDENTITY: &[&str] = &[
    "x-user-id",
    "x-user-email",
    "x-user-role",
    "x-user-anonymous",
    "x-session-id",
    "x-auth-status",
    "x-request-id",
    "x-portcullis-assertion",
];

/// A good token of a user without rights.
fn user() -> String {
    token_with(
        600,
        json!({"email": "u1@example.test", "role": "member", "session_id": "s1"}),
    )
}

/// Another good token, of somebody else.
fn other() -> String {
    token_with(600, json!({"sub": "u2", "role": "member"}))
}

fn setup(upstream: &str) -> Setup {
    Setup::new()
        .issuer()
        .upstream(upstream, "retries = 0")
        .route("/open/{*rest}", "")
        .route("/pass/{*rest}", "credentials = \"pass\"")
        .guarded("optional", "/maybe/{*rest}", "")
        .guarded("optional", "/strict/{*rest}", "on_invalid = \"reject\"")
        .guarded(
            "required",
            "/api/{*rest}",
            "max_body = \"64KiB\"\nupgrades = [\"other\"]",
        )
        .route("/own/{*rest}", "sources = [\"bearer\"]")
        .guarded("required", "/post", "methods = [\"POST\"]")
        .guarded("required", "/admin/{*rest}", "roles = [\"admin\"]")
}

impl Siege {
    async fn lay() -> Self {
        Self::lay_with(setup).await
    }

    async fn lay_with(setup: impl FnOnce(&str) -> Setup) -> Self {
        let received = Received::default();
        let url = received.listen().await;
        let gateway = Gateway::start(&setup(&url)).await;
        Self { gateway, received }
    }

    /// Sends the bytes on a connection of their own; `None` where it is closed without a word.
    async fn strike(&self, bytes: impl AsRef<[u8]>) -> Option<Answer> {
        let mut peer = self.gateway.client().await;
        peer.send(bytes).await;
        let head = peer.try_until(b"\r\n\r\n").await?;
        let head = Head(String::from_utf8(head).unwrap());
        Some(peer.body(head).await)
    }

    /// Holds each row: what the client is told, and what the upstream was sent of it.
    async fn hold(&self, rows: &[Row<'_>]) {
        for (name, bytes, wanted) in rows {
            let answer = self.strike(bytes).await;
            let told = answer.as_ref().map_or_else(|| "closed".to_owned(), told);
            self.judge(name, &told, wanted).await;
        }
        self.is_silent_in_the_log();
    }

    /// Holds an answer and what the upstream received against what was wanted.
    async fn judge(&self, name: &str, told: &str, wanted: &str) {
        let got = self.take().await;
        let Some(whom) = wanted.strip_prefix("200 ") else {
            assert_eq!(told, wanted, "{name}");
            assert!(got.is_empty(), "{name}: the upstream received {got:?}");
            return;
        };
        assert_eq!(told, "200", "{name}: {got:?}");
        let [(head, _)] = &got[..] else {
            panic!("{name}: the upstream received {got:?}");
        };
        is_sound(name, head);
        is_from(name, head, whom);
    }

    /// What the upstream has been sent since it was last asked. A marked request goes last, so that whatever
    /// was on its way has arrived.
    async fn take(&self) -> Vec<(Head, String)> {
        let answer = self.gateway.get("/open/mark").await;
        assert_eq!(answer.status(), 200, "the gateway no longer serves");
        let mut got = std::mem::take(&mut *self.received.0.lock().unwrap());
        let before = got.len();
        got.retain(|(head, _)| !head.line().contains("/open/mark"));
        assert_eq!(before, got.len() + 1);
        got
    }

    /// No token and no query stands in any line, nor in a label.
    fn is_silent_in_the_log(&self) {
        let log = self.gateway.log();
        for secret in ["eyJ", "token="] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    }
}

impl Received {
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(received.clone().serve(Peer::over(socket)));
            }
        });
        url
    }

    async fn serve(self, mut peer: Peer) {
        while let Some(head) = peer.try_until(b"\r\n\r\n").await {
            let head = Head(String::from_utf8_lossy(&head).into_owned());
            let at = {
                let mut all = self.0.lock().unwrap();
                all.push((head.clone(), String::new()));
                all.len() - 1
            };
            let body = match head.get("transfer-encoding") {
                None => peer.body(head).await.body,
                Some(_) => match peer.chunks().await {
                    Some((body, trailers)) => [body, trailers.into_bytes()].concat(),
                    None => return,
                },
            };
            if let Some(entry) = self.0.lock().unwrap().get_mut(at) {
                entry.1 = String::from_utf8_lossy(&body).into_owned();
            }
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    }
}

/// Status and word.
fn told(answer: &Answer) -> String {
    let body: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let word = body.as_ref().and_then(|body| body["error"].as_str());
    let challenged = answer.head.get("www-authenticate").is_some();
    assert!(
        answer.status() != 401 || challenged,
        "401 with no challenge"
    );
    match word {
        Some(word) => format!("{} {word}", answer.status()),
        None => answer.status().to_string(),
    }
}

/// Invariant 3: one `Host`, one framing, nothing hop-by-hop or doubtful in the head.
fn is_sound(name: &str, head: &Head) {
    assert_eq!(head.all("host").len(), 1, "{name}: {head:?}");
    let framings = head.all("content-length").len() + head.all("transfer-encoding").len();
    assert!(framings <= 1, "{name}: {head:?}");
    let lines = head.0.trim_end_matches("\r\n").split("\r\n");
    for line in lines.skip(1) {
        assert!(!line.contains(['\r', '\n', '\0']), "{name}: {line:?}");
        assert!(!line.starts_with([' ', '\t']), "{name}: {line:?}");
        let field = line.split(':').next().unwrap().to_ascii_lowercase();
        let hop = [
            "keep-alive",
            "proxy-",
            "http2-settings",
            "expect",
            "x-original-url",
            "x-rewrite-url",
        ];
        assert!(
            !hop.iter().any(|hop| field.starts_with(hop)),
            "{name}: {line:?}"
        );
    }
    let line: Vec<&str> = head.line().split(' ').collect();
    assert!(
        line.len() == 3 && !line[1].contains('#'),
        "{name}: {line:?}"
    );
}

/// Invariants 1 and 2: one of each identity header, from verified claims; and no credential anywhere.
fn is_from(name: &str, head: &Head, whom: &str) {
    let fold = |text: &str| {
        text.to_ascii_lowercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    };
    let fields: Vec<(String, &str)> = head
        .0
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(field, value)| (fold(field), value.trim()))
        .collect();
    for identity in IDENTITY {
        let found: Vec<&str> = fields
            .iter()
            .filter(|(field, _)| field == identity)
            .map(|(_, value)| *value)
            .collect();
        let claimed = USER.iter().find(|(field, _)| field == identity);
        match (*identity, whom) {
            ("x-request-id", _) => assert_eq!(found.len(), 1, "{name}: {head:?}"),
            ("x-auth-status", "user") => assert_eq!(found, ["authenticated"], "{name}"),
            ("x-auth-status", whom) => assert_eq!(found, [whom], "{name}"),
            (_, "user") => {
                let claimed: Vec<&str> = claimed.iter().map(|(_, value)| *value).collect();
                assert_eq!(found, claimed, "{name}: {identity}");
            }
            _ => assert_eq!(found, [""; 0], "{name}: {identity}"),
        }
    }
    assert!(!head.0.contains("eyJ"), "{name}: a token in {head:?}");
    assert!(
        !head.0.contains("evil"),
        "{name}: a client's word in {head:?}"
    );
}

/// A request with these header lines.
fn get(target: &str, lines: &str) -> String {
    request("GET", target, lines)
}

fn request(method: &str, target: &str, lines: &str) -> String {
    let lines = match lines {
        "" => String::new(),
        lines => format!("{lines}\r\n"),
    };
    format!("{method} {target} HTTP/1.1\r\nhost: here\r\n{lines}\r\n")
}

/// The same with the user's good token.
fn as_user(target: &str, lines: &str) -> String {
    let bearer = format!("authorization: Bearer {}", user());
    match lines {
        "" => get(target, &bearer),
        lines => get(target, &format!("{bearer}\r\n{lines}")),
    }
}
