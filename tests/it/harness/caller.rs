//! Calls of the gateway's own APIs: a request of JSON and its answer.

use std::fmt::Write as _;

use serde_json::Value;

use super::peer::Answer;
use super::{Gateway, Setup};

/// A call under way.
#[derive(Clone)]
pub struct Ask {
    line: String,
    fields: String,
    body: String,
}

/// What it was answered.
pub struct Told {
    pub answer: Answer,
    /// Null where there is no body.
    pub json: Value,
}

impl Ask {
    /// `POST /login`.
    pub fn new(line: &str) -> Self {
        Self {
            line: line.to_owned(),
            fields: String::new(),
            body: String::new(),
        }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        write!(self.fields, "{name}: {value}\r\n").unwrap();
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.field("authorization", &format!("Bearer {token}"))
    }

    /// A body of JSON.
    pub fn json(self, body: &Value) -> Self {
        self.field("content-type", "application/json")
            .body(&body.to_string())
    }

    pub fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    /// Sends it on a connection of its own.
    pub async fn to(self, gateway: &Gateway) -> Told {
        let mut client = gateway.client().await;
        let Self { line, fields, body } = self;
        let length = match body.len() {
            0 => String::new(),
            length => format!("content-length: {length}\r\n"),
        };
        let head =
            format!("{line} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{fields}{length}\r\n");
        client.send(head + &body).await;
        let answer = client.answer().await;
        let json = match answer.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&answer.body).expect("the answer is JSON"),
        };
        Told { answer, json }
    }
}

impl Told {
    pub fn status(&self) -> u16 {
        self.answer.status()
    }

    /// A member of the answer, which is a text.
    pub fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    /// A field of the answer's head, which stands there once.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self.answer.head.all(name)[..] {
            [] => None,
            [value] => Some(value),
            ref several => panic!("{name} stands there {} times", several.len()),
        }
    }
}

/// Users, kept beside the configuration, with hashes that cost little; more lines of `[accounts]` first.
pub fn accounts(lines: &str) -> Setup {
    // Nobody is behind it: no call gets so far.
    let setup = Setup::new().upstream("http://127.0.0.1:9", "");
    setup
        .guarded("required", "/behind/{*rest}", "")
        .piece(&format!(
            "[accounts]\nissuer = \"https://gateway.test/auth/v1\"\n{lines}\n\
         [accounts.password]\nargon2_memory = \"7MiB\"\nargon2_iterations = 1\n\
         [accounts.mail]\nhook = \"file\"\nfile = \"mails.jsonl\"\n"
        ))
}
