//! Times of the pure parts of a request's way: `cargo bench`, or `cargo bench -- route` for some of them.
//! `benches/README.md` has the results; `benches/instructions` counts whole requests.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

use std::cell::Cell;
use std::net::IpAddr;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use divan::{Bencher, black_box};
use futures_util::FutureExt;
use http::Request;
use http::request::Parts;
use jsonwebtoken::Algorithm;
use portcullis::clock::Clock;
use portcullis::config::{self, Config};
use portcullis::forward::headers::{Forwarding, HeaderPlan, Screens, Stamp};
use portcullis::forward::sse::enrich::Fields;
use portcullis::forward::sse::framer::Framer;
use portcullis::forward::sse::splitter::Splitter;
use portcullis::forward::websocket::frames::Follower;
use portcullis::identity::Caller;
use portcullis::identity::cache::LocalTokens;
use portcullis::identity::issuer::KeySources;
use portcullis::identity::jwks::JwksSources;
use portcullis::identity::mint::MintKey;
use portcullis::identity::verifier::Verifier;
use portcullis::observe::request_id::RequestId;
use portcullis::policy::{Permit, Policy};
use portcullis::request::credential::{Credential, Found, Place, Sources};
use portcullis::request::head::{Head, HeadRules};
use portcullis::request::peer::Peer;
use portcullis::route::router::Router;
use portcullis::secret::Secret;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

const SECRET: &str = "vJ3kQ7fT2XmL9rZs4WnY8bHc6JpDg1Ra";
const ISSUER: &str = "https://project.example/auth/v1";
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::HS256,
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

// ------------------------------------------------------------------ what is timed on

/// Claims as Supabase makes them.
fn claims(user: u32) -> Value {
    let id = format!("00000000-0000-4000-8000-{user:012}");
    let email = format!("user-{user}@mail.example");
    let now = Clock::System.now();
    json!({
        "iss": ISSUER, "sub": id, "aud": "authenticated", "exp": now + 86400, "iat": now, "email": email,
        "phone": "", "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": {"email": email, "email_verified": true, "phone_verified": false, "sub": id},
        "role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": now}],
        "session_id": id, "is_anonymous": false,
    })
}

/// A configuration of one issuer, whose line for its keys is `source`, and of so many routes.
fn configuration(algorithm: Algorithm, source: &str, routes: usize) -> Config {
    let mut text = format!(
        "[[issuer]]\nname = \"bench\"\niss = \"{ISSUER}\"\naudience = [\"authenticated\"]\n\
         algorithms = [\"{algorithm:?}\"]\n{source}\n\
         [[upstream]]\nname = \"app\"\nendpoints = [\"http://127.0.0.1:9\"]\n\
         [[route]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"app\"\nauth = \"required\"\n"
    );
    for number in 1..routes {
        let group = number % 50;
        text += &format!(
            "[[route]]\nname = \"r{number}\"\npath = \"/api/v{group}/things{number}/{{id}}\"\n\
             upstream = \"app\"\nauth = \"required\"\n"
        );
    }
    config::parse(&text, Path::new("bench.toml"), &|_| None).unwrap()
}

fn plain(routes: usize) -> Config {
    configuration(Algorithm::HS256, &format!("secret = \"{SECRET}\""), routes)
}

/// A key to sign with, and the issuer's line that names its public half.
fn keys(algorithm: Algorithm) -> (MintKey, String) {
    let ec = |kind| {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        (pair.serialize_pem(), pair.public_key_raw().to_vec())
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (pem, jwk) = match algorithm {
        Algorithm::HS256 => {
            let key = MintKey::secret(algorithm, SECRET.as_bytes()).unwrap();
            return (key, format!("secret = \"{SECRET}\""));
        }
        Algorithm::ES256 | Algorithm::ES384 => {
            let (kind, crv) = match algorithm {
                Algorithm::ES256 => (&rcgen::PKCS_ECDSA_P256_SHA256, "P-256"),
                _ => (&rcgen::PKCS_ECDSA_P384_SHA384, "P-384"),
            };
            let (pem, point) = ec(kind);
            let (x, y) = point[1..].split_at(point.len() / 2);
            let jwk = json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)});
            (pem, jwk)
        }
        Algorithm::EdDSA => {
            let (pem, point) = ec(&rcgen::PKCS_ED25519);
            (
                pem,
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&point)}),
            )
        }
        _ => {
            let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
            let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
            let modulus = public.modulus().big_endian_without_leading_zero();
            let pem = format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                STANDARD.encode(private.as_ref())
            );
            (
                pem,
                json!({"kty": "RSA", "n": encode(modulus), "e": "AQAB"}),
            )
        }
    };
    let mut jwk = jwk;
    jwk["kid"] = "bench".into();
    // By process and algorithm: nothing else writes there.
    let name = format!("portcullis-bench-{}-{algorithm:?}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, json!({"keys": [jwk]}).to_string()).unwrap();
    let key = MintKey::pem(algorithm, &pem).unwrap().with_kid("bench");
    (key, format!("jwks_file = \"{}\"", path.display()))
}

struct Tokens {
    verifier: Verifier,
    key: MintKey,
}

impl Tokens {
    fn of(algorithm: Algorithm) -> Self {
        let (key, source) = keys(algorithm);
        let config = configuration(algorithm, &source, 1);
        let jwks = &JwksSources::idle(Clock::System);
        let sources = KeySources { jwks, own: None };
        let verifier = Verifier::build(&config, sources, Clock::System).unwrap();
        Self { verifier, key }
    }

    fn mint(&self, user: u32) -> String {
        self.key.mint(&claims(user)).unwrap()
    }

    /// The token of a user with the signature of another's, who is number 1.
    fn forge(&self, user: u32) -> String {
        let (good, other) = (self.mint(user), self.mint(1));
        let (message, _) = good.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        format!("{message}.{signature}")
    }

    fn identify(&self, local: &LocalTokens, token: &str) -> Caller {
        let token = Credential {
            token: Secret::new(token.into()),
            place: Place::Bearer,
        };
        let identified = self.verifier.identify(local, Some(token), None);
        identified.now_or_never().unwrap()
    }
}

/// A browser's request.
fn parts(target: &str, token: &str) -> Parts {
    let request = Request::get(target)
        .header("host", "app.example")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
        )
        .header("accept", "application/json, text/plain, */*")
        .header("accept-language", "zh-CN,zh;q=0.9,en;q=0.8")
        .header("accept-encoding", "gzip, deflate, br")
        .header("referer", "https://app.example/studio")
        .header("cookie", "theme=dark; lang=zh")
        .header("authorization", format!("Bearer {token}"))
        .header("connection", "keep-alive")
        .body(());
    request.unwrap().into_parts().0
}

fn peer() -> Peer {
    Peer {
        address: Some(IpAddr::from([192, 0, 2, 7])),
        secure: true,
    }
}

fn head(target: &str, config: &Config) -> Head {
    let rules = HeadRules::build(&config.server);
    Head::read(&mut parts(target, "token"), peer(), &rules).unwrap()
}

// ------------------------------------------------------------------ tokens

#[divan::bench(args = ALGORITHMS)]
fn token_known(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (tokens, local) = (Tokens::of(algorithm), LocalTokens::new(4096));
    let token = tokens.mint(1);
    assert!(matches!(tokens.identify(&local, &token), Caller::Known(_)));
    bencher.bench_local(|| tokens.identify(&local, black_box(&token)));
}

/// Known to the other workers.
#[divan::bench]
fn token_shared(bencher: Bencher<'_, '_>) {
    let (tokens, local) = (Tokens::of(Algorithm::HS256), LocalTokens::new(0));
    let token = tokens.mint(1);
    tokens.identify(&local, &token);
    bencher.bench_local(|| tokens.identify(&local, black_box(&token)));
}

#[divan::bench(args = ALGORITHMS)]
fn token_new(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (tokens, local) = (Tokens::of(algorithm), LocalTokens::new(4096));
    let user = Cell::new(0);
    bencher
        .with_inputs(|| {
            user.set(user.get() + 1);
            tokens.mint(user.get())
        })
        .bench_local_values(|token| tokens.identify(&local, &token));
}

/// Badly signed, another one each time.
#[divan::bench(args = ALGORITHMS)]
fn token_bad(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let (tokens, local) = (Tokens::of(algorithm), LocalTokens::new(4096));
    let user = Cell::new(1);
    bencher
        .with_inputs(|| {
            user.set(user.get() + 1);
            tokens.forge(user.get())
        })
        .bench_local_values(|token| tokens.identify(&local, &token));
}

/// Badly signed, tried again and again.
#[divan::bench]
fn token_bad_again(bencher: Bencher<'_, '_>) {
    let (tokens, local) = (Tokens::of(Algorithm::HS256), LocalTokens::new(4096));
    let token = tokens.forge(2);
    let refused = tokens.identify(&local, &token);
    assert!(matches!(refused, Caller::Unverified(..)));
    bencher.bench_local(|| tokens.identify(&local, black_box(&token)));
}

#[divan::bench]
fn credential_taken(bencher: Bencher<'_, '_>) {
    let config = plain(1);
    let sources = Sources::build(config.every_source());
    let token = Tokens::of(Algorithm::HS256).mint(1);
    bencher
        .with_inputs(|| parts("/api/things?page=2", &token))
        .bench_local_refs(|parts| {
            let taken = sources.take(parts, &sources).unwrap();
            assert!(matches!(taken.found, Found::Token(_)));
        });
}

// ------------------------------------------------------------------ heads, routes, headers

#[divan::bench]
fn head_read(bencher: Bencher<'_, '_>) {
    let rules = HeadRules::build(&plain(1).server);
    bencher
        .with_inputs(|| parts("/api/things?page=2", "token"))
        .bench_local_refs(|parts| Head::read(parts, peer(), &rules));
}

#[divan::bench(args = [1, 100, 10_000])]
fn route_found(bencher: Bencher<'_, '_>, routes: usize) {
    let config = plain(routes);
    let router = Router::build(&config.routes).unwrap();
    let last = routes - 1;
    let head = head(&format!("/api/v{}/things{last}/7", last % 50), &config);
    bencher.bench_local(|| router.find(black_box(&head)).unwrap().route);
}

/// What the upstream gets: hop-by-hop and identity fields out, the lines of forwarding and identity behind.
#[divan::bench]
fn headers_for_upstream(bencher: Bencher<'_, '_>) {
    let config = plain(1);
    let plan = HeaderPlan::build(&config.routes[0], &config, &Screens::build(&config));
    let (tokens, local) = (Tokens::of(Algorithm::HS256), LocalTokens::new(16));
    let caller = tokens.identify(&local, &tokens.mint(1));
    let head = head("/api/things?page=2", &config);
    let policy = Policy::build(&config.routes[0]);
    let permit: Permit = policy.decide(caller, Some(Place::Bearer), &head).unwrap();
    let (forwarding, id) = (Forwarding::from_peer(peer()), RequestId::mint());
    bencher
        .with_inputs(|| parts("/api/things?page=2", "token").headers)
        .bench_local_refs(|headers| {
            let (id, forwarding) = (&id, &forwarding);
            let tail = plan.request(headers, &head, &permit, Stamp { id, forwarding });
            let mut lines = Vec::with_capacity(1024);
            tail.write(&mut lines);
            lines
        });
}

// ------------------------------------------------------------------ streams

const EVENT: &str = "id: 7\nevent: token\ndata: {\"t\":1234567890,\"text\":\"------------------------------\
                     ----------------------------------\"}\n\n";

/// 64 events in one read.
#[divan::bench]
fn sse_split_64_events(bencher: Bencher<'_, '_>) {
    let bytes = EVENT.repeat(64);
    bencher.bench_local(|| {
        let (mut splitter, mut at) = (Splitter::default(), 0);
        while let Some(end) = splitter.advance(&black_box(bytes.as_bytes())[at..]) {
            at += end;
        }
        at
    });
}

#[divan::bench]
fn sse_frame_1_event(bencher: Bencher<'_, '_>) {
    let bytes = Bytes::from_static(EVENT.as_bytes());
    let mut framer = Framer::default();
    bencher.bench_local(|| framer.take_in(bytes.clone(), |_| None));
}

#[divan::bench]
fn sse_enrich_1_event(bencher: Bencher<'_, '_>) {
    let config = plain(1);
    let (tokens, local) = (Tokens::of(Algorithm::HS256), LocalTokens::new(16));
    let Caller::Known(identity) = tokens.identify(&local, &tokens.mint(1)) else {
        unreachable!("the token is good");
    };
    let fields = Fields::of(Some(&identity), &config.routes[0].sse.enrich_fields);
    bencher.bench_local(|| fields.rewrite(black_box(EVENT.as_bytes())).unwrap());
}

/// 64 masked frames of 128 bytes.
#[divan::bench]
fn websocket_follow_64_frames(bencher: Bencher<'_, '_>) {
    let mut frame = vec![0x81, 0xfe, 0, 128, 1, 2, 3, 4];
    frame.resize(8 + 128, b'x');
    let bytes = frame.repeat(64);
    let mut follower = Follower::default();
    bencher.bench_local(|| follower.follow(black_box(&bytes)));
}
