//! Configurations, in pieces.

use std::fmt::Write;

use portcullis::identity::mint::mint_hs256;
use serde_json::{Value, json};

pub const SECRET: &str = "vJ3kQ7fT2XmL9rZs4WnY8bHc6JpDg1Ra";

/// A configuration under way. One worker, so that it is known which connections are kept.
#[derive(Clone, Default)]
pub struct Setup {
    server: String,
    listen: Option<String>,
    rest: String,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// A public route `/{*rest}` to `endpoint`.
    pub fn simple(endpoint: &str) -> Self {
        Self::new().upstream(endpoint, "").route("/{*rest}", "")
    }

    /// Lines of `[server]`.
    pub fn server(mut self, lines: &str) -> Self {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Where to listen besides a free port.
    pub fn listen(mut self, place: &str) -> Self {
        self.listen = Some(place.to_owned());
        self
    }

    /// The issuer of `token`.
    pub fn issuer(self) -> Self {
        self.piece(&format!(
            "[[issuer]]\nname = \"test\"\niss = \"https://issuer.test\"\naudience = []\n\
             algorithms = [\"HS256\"]\nsecret = \"{SECRET}\""
        ))
    }

    /// The upstream `app`, with more lines of its own.
    pub fn upstream(self, endpoint: &str, lines: &str) -> Self {
        self.upstreams(&[endpoint], lines)
    }

    /// The same at several places.
    pub fn upstreams(self, endpoints: &[&str], lines: &str) -> Self {
        self.piece(&format!(
            "[[upstream]]\nname = \"app\"\nendpoints = {endpoints:?}\n{lines}"
        ))
    }

    /// A public route.
    pub fn route(self, path: &str, lines: &str) -> Self {
        self.guarded("public", path, lines)
    }

    /// A route with this `auth`, named after its path.
    pub fn guarded(self, auth: &str, path: &str, lines: &str) -> Self {
        let name = name_of(path);
        self.piece(&format!(
            "[[route]]\nname = \"{name}\"\npath = \"{path}\"\nupstream = \"app\"\n\
             auth = \"{auth}\"\n{lines}"
        ))
    }

    pub fn piece(mut self, text: &str) -> Self {
        self.rest.push_str(text);
        self.rest.push('\n');
        self
    }

    pub fn text(&self) -> String {
        let mut text = String::from("[server]\nworkers = 1\nlisten = [\"127.0.0.1:0\"");
        if let Some(place) = &self.listen {
            write!(text, ", \"{place}\"").unwrap();
        }
        text.push_str("]\n");
        for (key, line) in [
            ("watch", "watch = false\n"),
            ("drain_timeout", "drain_timeout = \"20s\"\n"),
        ] {
            if !self.server.contains(key) {
                text.push_str(line);
            }
        }
        text.push_str(&self.server);
        text.push_str("[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n");
        // Most tests ask often and say nothing of limits.
        if !self.rest.contains("[limits") {
            text.push_str("[limits]\nenabled = false\n");
        }
        text.push_str(&self.rest);
        text
    }
}

/// What a route with this path is called: its letters.
pub fn name_of(path: &str) -> String {
    path.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// A token of user `u1` that lasts for so many seconds.
pub fn token(seconds: i64) -> String {
    token_with(seconds, json!({}))
}

/// The same with more claims.
pub fn token_with(seconds: i64, more: Value) -> String {
    let now = i64::try_from(portcullis::clock::Clock::System.now()).unwrap();
    let exp = now + seconds;
    let mut claims = json!({"iss": "https://issuer.test", "sub": "u1", "exp": exp});
    let more = more.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(more);
    mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}
