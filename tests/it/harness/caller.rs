//! Calls of the gateway's own APIs: a request of JSON and its answer.

use serde_json::Value;

pub use super::api::Ask;
use super::peer::Answer;
use super::{Gateway, Setup};

/// What it was answered.
pub struct Told {
    pub answer: Answer,
    /// Null where there is no body.
    pub json: Value,
}

impl Ask {
    /// Sends it on a connection of its own; what is answered must be JSON, or nothing.
    pub async fn to(self, gateway: &Gateway) -> Told {
        let answer = self.answer(gateway).await;
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
