//! How often a proxied request allocates, and what a known token keeps: guards against growth, not goals. In a binary of its own, since
//! it counts with an allocator of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::rc::Rc;

use http::Request;
use http_body_util::BodyExt;
use portcullis::body::Body;
use portcullis::clock::Clock;
use portcullis::config;
use portcullis::forward::headers::Forwarding;
use portcullis::gate::{Conn, Gate};
use portcullis::identity::mint::mint_hs256;
use portcullis::request::peer::Peer;
use portcullis::resources::{Desk, Resources};
use portcullis::wire::vitals::Ward;

/// What one request may allocate: the gate, hyper's client and its task for the connection together. The
/// count of the day is printed; lower this when it falls.
const BOUND: f64 = 24.0;
/// Bytes that a known token may keep, with its identity and limits, where all caches have room. The text of one is
/// about 840 of them. Of the day: printed.
const KNOWN: i64 = 2600;
const SECRET: &str = "vJ3kQ7fT2XmL9rZs4WnY8bHc6JpDg1Ra";
const REQUESTS: usize = 200;
const TOKENS: usize = 1000;

/// An upstream on threads of its own, whose allocations are not counted.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = socket.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..read]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        socket.write_all(answer).unwrap();
                    }
                }
            });
        }
    });
    port
}

fn configuration(port: u16) -> String {
    format!(
        "[[issuer]]\nname = \"test\"\niss = \"https://issuer.test\"\naudience = []\n\
         algorithms = [\"HS256\"]\nsecret = \"{SECRET}\"\n\
         [[limits.class]]\nname = \"permanent\"\nrate = 1000000\ndaily = 1000000\n\
         [[upstream]]\nname = \"app\"\nendpoints = [\"http://127.0.0.1:{port}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"app\"\nauth = \"required\"\n"
    )
}

/// A token of Supabase's form, of the user with this number.
fn token(number: usize) -> String {
    let user = format!("00000000-0000-4000-8000-{number:012}");
    let email = format!("user-{number}@mail.example");
    let now = Clock::System.now();
    let claims = serde_json::json!({
        "iss": "https://issuer.test", "sub": user, "aud": "authenticated", "exp": now + 600, "iat": now,
        "email": email, "phone": "", "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email": email, "email_verified": true, "phone_verified": false, "sub": user},
        "role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": now}],
        "session_id": user, "is_anonymous": false,
    });
    mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

fn request(token: &str) -> Request<Body> {
    Request::get("/api/things?page=2")
        .header("host", "here")
        .header("accept", "application/json")
        .header("user-agent", "test")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::Empty)
        .unwrap()
}

async fn ask(gate: &Gate, conn: &Conn, ward: &Rc<Ward>, requests: Vec<Request<Body>>) {
    for request in requests {
        let bed = ward.admit();
        let answer = gate.handle(conn, request, None, bed.vitals.begin()).await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
        }
    }
}

/// A gate on a thread of its own.
struct House {
    gate: Gate,
    conn: Conn,
    runtime: tokio::runtime::LocalRuntime,
    ward: Rc<Ward>,
}

impl House {
    fn open() -> Self {
        let text = configuration(upstream());
        let config = config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
        let resources = Resources::offline(Clock::System);
        let desk = Rc::new(Desk::new(&resources, &config, 0));
        let peer = Peer {
            address: Some(std::net::IpAddr::from([127, 0, 0, 1])),
            secure: false,
        };
        Self {
            gate: Gate::build(config, &resources).unwrap(),
            conn: Conn {
                desk,
                peer,
                forwarding: Forwarding::from_peer(peer),
            },
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap(),
            ward: Ward::open(),
        }
    }

    fn ask(&self, requests: Vec<Request<Body>>) {
        let asked = ask(&self.gate, &self.conn, &self.ward, requests);
        self.runtime.block_on(asked);
    }
}

#[test]
fn a_request_with_a_known_token_allocates_little() {
    let house = House::open();
    let token = token(1);
    let requests = || (0..REQUESTS).map(|_| request(&token)).collect::<Vec<_>>();
    // The token becomes known, the connection kept.
    house.ask(requests());
    let measured = requests();
    let counted = allocation_counter::measure(|| house.ask(measured));
    let each = counted.count_total as f64 / REQUESTS as f64;
    let bytes = counted.bytes_total as f64 / REQUESTS as f64;
    eprintln!("a request: {each:.2} allocations, {bytes:.0} bytes");
    assert!(each < BOUND, "{each:.2} allocations a request");
}

#[test]
fn a_token_takes_little_memory_while_it_is_known() {
    let house = House::open();
    let ask = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            house.ask(vec![request(&token(number))]);
        }
    };
    ask(0..TOKENS);
    let counted = allocation_counter::measure(|| ask(TOKENS..2 * TOKENS));
    let each = counted.bytes_current / TOKENS as i64;
    eprintln!("a known token: {each} bytes");
    assert!(each < KNOWN, "{each} bytes");
}
