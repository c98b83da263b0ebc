//! Calls of the log-in APIs: a gateway with users of its own, and what it is asked.

use serde_json::{Value, json};

use super::peer::{Answer, Head};
use super::{Gateway, Setup, Upstream, full};

/// Users, kept beside the config, and all four APIs at their usual mounts. Hashes are as cheap as they may be.
pub const ACCOUNTS: &str = "[accounts]\nissuer = \"https://gw.test/auth/v1\"\n\
    [accounts.password]\nargon2_memory = \"7MiB\"\nargon2_iterations = 1\nthreads = 1\n\
    [accounts.attempts]\nper_address = 0\nrefreshes_per_address = 0\nfree = 1000\n\
    [api.app]\nmount = \"/api/v1/base\"\n\
    [api.session]\nauth_mount = \"/api/auth\"\nsessions_mount = \"/api/sessions\"\n\
    [api.token]\nmount = \"/auth\"\n\
    [api.supabase]\nmount = \"/auth/v1\"\n";

/// A request under way.
#[derive(Clone)]
pub struct Ask {
    line: String,
    fields: String,
    body: Vec<u8>,
}

/// An answer in JSON; null where it has no body.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub head: Head,
    pub body: Value,
}

impl Ask {
    pub fn new(method: &str, path: &str) -> Self {
        Self::line(&format!("{method} {path}"))
    }

    /// `POST /login`.
    pub fn line(line: &str) -> Self {
        Self {
            line: line.to_owned(),
            fields: String::new(),
            body: Vec::new(),
        }
    }

    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).json(body)
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string().as_bytes())
    }

    pub fn raw(self, kind: &str, body: &[u8]) -> Self {
        self.field("content-type", kind).body(body)
    }

    /// A body of no type.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.field("authorization", &format!("Bearer {token}"))
    }

    pub fn chinese(self) -> Self {
        self.field("accept-language", "zh-CN,zh;q=0.9,en;q=0.5")
    }

    /// Asks on a connection of its own.
    pub async fn of(&self, gateway: &Gateway) -> Told {
        let answer = self.answer(gateway).await;
        Told::of(answer.head, &answer.body)
    }

    /// The same, for the answer as it came.
    pub async fn answer(&self, gateway: &Gateway) -> Answer {
        let mut client = gateway.client().await;
        let Self { line, fields, body } = self;
        let mut bytes = format!("{line} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{fields}");
        if !line.starts_with("GET") || !body.is_empty() {
            bytes.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        client.send(bytes).await;
        client.send(body).await;
        match line.starts_with("HEAD") {
            true => Answer {
                head: client.head().await,
                body: Vec::new(),
                trailers: String::new(),
            },
            false => client.answer().await,
        }
    }
}

impl Told {
    pub fn of(head: Head, body: &[u8]) -> Self {
        Self {
            status: head.status(),
            body: serde_json::from_slice(body).unwrap_or_default(),
            head,
        }
    }

    /// The text at this place of the body.
    pub fn text(&self, pointer: &str) -> String {
        let value = self.body.pointer(pointer).and_then(Value::as_str);
        value
            .unwrap_or_else(|| panic!("{pointer} of {self:?}"))
            .to_owned()
    }

    #[track_caller]
    pub fn is(&self, status: u16, body: &Value) {
        assert_eq!((self.status, &self.body), (status, body));
    }
}

/// Registers a user in the session API, with an address made of the name.
pub async fn register(gateway: &Gateway, name: &str) {
    let asked =
        json!({"username": name, "email": format!("{name}@mail.test"), "password": PASSWORD});
    let told = Ask::post("/api/auth/register", &asked).of(gateway).await;
    assert_eq!(told.status, 201, "{told:?}");
}

/// An access token from the app API.
pub async fn app_token(gateway: &Gateway, name: &str) -> String {
    let asked = json!({"username": name, "password": PASSWORD});
    let told = Ask::post("/api/v1/base/access_token", &asked)
        .of(gateway)
        .await;
    told.text("/data/access_token")
}

/// A session token from the session API.
pub async fn session_token(gateway: &Gateway, name: &str) -> String {
    let asked = json!({"username": name, "password": PASSWORD});
    Ask::post("/api/auth/login", &asked)
        .of(gateway)
        .await
        .text("/session/token")
}

/// What everybody's password is.
pub const PASSWORD: &str = "correct horse";

/// Such a gateway before an upstream that is asked by holders of a credential alone.
pub fn setup(endpoint: &str) -> Setup {
    Setup::new()
        .upstream(endpoint, "")
        .guarded("required", "/{*rest}", "")
        .piece(ACCOUNTS)
}

/// A gateway with the user `ada`, and the upstream that it leads to.
pub struct Site {
    gateway: Gateway,
    _upstream: Upstream,
}

impl std::ops::Deref for Site {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl Site {
    /// With more of a configuration.
    pub async fn with(more: &str) -> Self {
        let upstream = Upstream::http1(async |_| http::Response::new(full("upstream"))).await;
        let gateway = Gateway::start(&setup(&upstream.url).piece(more)).await;
        register(&gateway, "ada").await;
        Self {
            gateway,
            _upstream: upstream,
        }
    }

    pub async fn start() -> Self {
        Self::with("").await
    }
}
