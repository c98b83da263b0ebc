//! How often a proxied request allocates: a guard against growth, not a goal. In a binary of its own, since
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
const SECRET: &str = "vJ3kQ7fT2XmL9rZs4WnY8bHc6JpDg1Ra";
const REQUESTS: usize = 200;

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

fn requests(token: &str) -> Vec<Request<Body>> {
    let request = || {
        Request::get("/api/things?page=2")
            .header("host", "here")
            .header("accept", "application/json")
            .header("user-agent", "test")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::Empty)
            .unwrap()
    };
    (0..REQUESTS).map(|_| request()).collect()
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

#[test]
fn a_request_with_a_known_token_allocates_little() {
    let clock = Clock::System;
    let claims = serde_json::json!({
        "iss": "https://issuer.test", "sub": "u1", "email": "u1@example.com",
        "role": "authenticated", "session_id": "s1", "exp": clock.now() + 600,
    });
    let token = mint_hs256(SECRET.as_bytes(), &claims).unwrap();
    let text = configuration(upstream());
    let config = config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
    let resources = Resources::offline(clock);
    let desk = Rc::new(Desk::new(&resources, &config, 0));
    let gate = Gate::build(config, &resources).unwrap();
    let peer = Peer {
        address: Some(std::net::IpAddr::from([127, 0, 0, 1])),
        secure: false,
    };
    let conn = Conn {
        desk,
        peer,
        forwarding: Forwarding::from_peer(peer),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let ward = Ward::open();
    // The token becomes known, the connection kept.
    runtime.block_on(ask(&gate, &conn, &ward, requests(&token)));
    let measured = requests(&token);
    let counted = allocation_counter::measure(|| {
        runtime.block_on(ask(&gate, &conn, &ward, measured));
    });
    let each = counted.count_total as f64 / REQUESTS as f64;
    let bytes = counted.bytes_total as f64 / REQUESTS as f64;
    eprintln!("a request: {each:.2} allocations, {bytes:.0} bytes");
    assert!(each < BOUND, "{each:.2} allocations a request");
}
