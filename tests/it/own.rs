//! What the gateway answers itself on its public port, and what it signs for upstreams.

use http::Response;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use crate::harness::gateway::Folder;
use crate::harness::peer::Answer;
use crate::harness::setup::token_with;
use crate::harness::{Gateway, Setup, Upstream, full, token};

/// An upstream that answers with the request's head as it came.
async fn mirror() -> Upstream {
    Upstream::http1(async |request| {
        let mut text = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
        }
        Response::new(full(text))
    })
    .await
}

async fn ask(gateway: &Gateway, line: &str, fields: &str) -> Answer {
    let mut client = gateway.client().await;
    let ask = format!("{line} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n{fields}\r\n");
    client.send(ask).await;
    client.answer().await
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// The value of a field in what `mirror` answered; none where it did not come.
fn seen<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let fields = text.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(field, _)| *field == name)
        .map(|(_, value)| value)
        .collect()
}

#[tokio::test]
async fn probes_stand_on_the_public_port_where_they_are_switched_on() {
    let upstream = mirror().await;
    let setup =
        Setup::simple(&upstream.url).server("public_probes = true\nhosts = [\"served.test\"]");
    let gateway = Gateway::start(&setup).await;
    let alive = ask(&gateway, "GET /healthz", "").await;
    assert_eq!(
        (alive.status(), json(&alive)),
        (200, json!({"status": "ok"}))
    );
    let ready = ask(&gateway, "GET /readyz", "").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(json(&ready)["ready"], true);
    assert_eq!(ask(&gateway, "POST /healthz", "").await.status(), 405);
    // Only the probes are asked of any host.
    assert_eq!(ask(&gateway, "GET /other", "").await.status(), 421);
    gateway.reload(&Setup::simple(&upstream.url)).await.unwrap();
    let carried = ask(&gateway, "GET /healthz", "").await;
    assert!(carried.text().starts_with("GET /healthz"));
}

#[tokio::test]
async fn a_probe_without_its_body_tells_its_length() {
    let upstream = mirror().await;
    let setup = Setup::simple(&upstream.url).server("public_probes = true");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    let ask =
        "HEAD /healthz HTTP/1.1\r\nhost: here\r\n\r\nGET /healthz HTTP/1.1\r\nhost: here\r\n\r\n";
    client.send(ask).await;
    let head = client.head().await;
    assert_eq!(
        (head.status(), head.get("content-length")),
        (200, Some("15"))
    );
    assert_eq!(json(&client.answer().await), json!({"status": "ok"}));
}

#[tokio::test]
async fn verify_tells_another_proxy_who_calls() {
    let upstream = mirror().await;
    let setup = Setup::simple(&upstream.url)
        .issuer()
        .server("verify = true");
    let gateway = Gateway::start(&setup).await;
    let token = token_with(
        600,
        json!({"session_id": "s1", "role": "member", "email": "a@b.c", "exp": 4_000_000_000_u64}),
    );
    let good = ask(&gateway, "GET /_portcullis/verify", &bearer(&token)).await;
    assert_eq!(good.status(), 200);
    assert_eq!(good.head.all("x-user-id"), ["u1"]);
    assert_eq!(good.head.all("x-auth-status"), ["authenticated"]);
    assert_eq!(good.head.all("x-session-id"), ["s1"]);
    assert_eq!(good.head.all("cache-control"), ["no-store"]);
    assert_eq!(good.head.all("x-request-id").len(), 1);
    let expected = json!({
        "user_id": "u1", "session_id": "s1", "role": "member", "email": "a@b.c",
        "anonymous": false, "issuer": "test", "expires_at": 4_000_000_000_u64,
    });
    assert_eq!(json(&good), expected);
    let cookie = format!("cookie: portcullis={token}\r\n");
    assert_eq!(
        ask(&gateway, "GET /_portcullis/verify", &cookie)
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn verify_refuses_as_a_route_does_and_believes_no_forwarded_header() {
    let upstream = mirror().await;
    let setup = Setup::simple(&upstream.url)
        .issuer()
        .server("verify = true\ntrusted_proxies = [\"127.0.0.1\"]");
    let gateway = Gateway::start(&setup).await;
    let forged = "x-user-id: admin\r\nx-auth-status: authenticated\r\nx-forwarded-method: OPTIONS\r\n\
                  x-forwarded-uri: /healthz\r\nx-original-url: /healthz\r\n";
    let expired = bearer(&token(-600));
    let two = format!("{}token: {}\r\n", bearer(&token(60)), token(61));
    for (line, fields, status, word) in [
        ("GET /_portcullis/verify", "", 401, "token_missing"),
        ("GET /_portcullis/verify", forged, 401, "token_missing"),
        ("GET /_portcullis/verify", &expired, 401, "token_expired"),
        ("GET /_portcullis/verify", &two, 400, "credentials_conflict"),
        (
            "POST /_portcullis/verify",
            &bearer(&token(60)),
            405,
            "method_refused",
        ),
        (
            "OPTIONS /_portcullis/verify",
            "origin: https://a.test\r\naccess-control-request-method: GET\r\n",
            405,
            "method_refused",
        ),
        ("GET /_portcullis/nothing", "", 404, "route_not_found"),
        ("GET /_portcullis", "", 404, "route_not_found"),
        ("GET /_portcullis/jwks.json", "", 404, "route_not_found"),
    ] {
        let answer = ask(&gateway, line, fields).await;
        assert_eq!(answer.status(), status, "{line} {fields}");
        assert_eq!(json(&answer)["error"], word, "{line} {fields}");
        assert!(answer.head.get("x-user-id").is_none());
        if status == 405 {
            assert_eq!(answer.head.get("allow").expect("it is named"), "GET, HEAD");
        }
    }
    let missing = ask(&gateway, "GET /_portcullis/verify", "").await;
    assert!(
        missing
            .head
            .get("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
}

#[tokio::test]
async fn verify_is_off_unless_it_is_asked_for() {
    let upstream = mirror().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url).issuer()).await;
    let answer = ask(&gateway, "GET /_portcullis/verify", &bearer(&token(60))).await;
    assert_eq!(answer.status(), 404);
}

/// A folder with a fresh key for the algorithm.
fn with_key(algorithm: Algorithm) -> Folder {
    let folder = Folder::new();
    let kind = match algorithm {
        Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        _ => &rcgen::PKCS_ED25519,
    };
    let key = rcgen::KeyPair::generate_for(kind).unwrap();
    folder.write("key.pem", &key.serialize_pem());
    folder
}

fn asserting(upstream: &Upstream, lines: &str) -> Setup {
    Setup::new()
        .piece(&format!(
            "[assertion]\nkey_file = \"key.pem\"\nissuer = \"gate\"\n{lines}"
        ))
        .issuer()
        .upstream(&upstream.url, "assertion = true")
        .guarded("optional", "/{*rest}", "")
        .route("/public", "")
        .guarded("required", "/without", "assertion = false")
}

/// The claims of an assertion, verified by a library with what the gateway publishes at `place`.
async fn verified(gateway: &Gateway, assertion: &str, place: &str) -> Value {
    // A second installation is refused, which is as good: it is the same provider.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let published = ask(gateway, &format!("GET {place}"), "").await;
    assert_eq!(published.status(), 200);
    assert_eq!(published.head.all("cache-control"), ["public, max-age=600"]);
    let keys: JwkSet = serde_json::from_slice(&published.body).unwrap();
    let header = decode_header(assertion).unwrap();
    assert_eq!(header.typ.as_deref(), Some("assertion+jwt"));
    let jwk = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["app"]);
    validation.set_issuer(&["gate"]);
    validation.leeway = 0;
    let key = DecodingKey::from_jwk(jwk).unwrap();
    decode::<Value>(assertion, &key, &validation)
        .unwrap()
        .claims
}

#[tokio::test]
async fn an_upstream_gets_an_assertion_that_a_library_verifies() {
    let upstream = mirror().await;
    for (algorithm, word) in [(Algorithm::ES256, "ES256"), (Algorithm::EdDSA, "EdDSA")] {
        let setup = asserting(
            &upstream,
            &format!("algorithm = \"{word}\"\nwell_known = true"),
        );
        let gateway = Gateway::start_in(with_key(algorithm), &setup).await;
        let token = token_with(600, json!({"session_id": "s1", "role": "member"}));
        let fields = format!("{}x-portcullis-assertion: forged\r\n", bearer(&token));
        let text = ask(&gateway, "GET /a", &fields).await.text();
        let [assertion] = seen(&text, "x-portcullis-assertion")[..] else {
            panic!("{text}");
        };
        for place in ["/_portcullis/jwks.json", "/.well-known/jwks.json"] {
            let claims = verified(&gateway, assertion, place).await;
            for (name, value) in [
                ("sub", "u1"),
                ("sid", "s1"),
                ("role", "member"),
                ("idp", "test"),
            ] {
                assert_eq!(claims[name], value);
            }
            let lasts = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
            assert_eq!(lasts, 60);
            assert!(claims.get("path").is_none());
        }
        // It is used again.
        let again = ask(&gateway, "GET /b", &fields).await.text();
        let second = seen(&again, "x-portcullis-assertion")[0];
        assert_eq!(
            verified(&gateway, second, "/_portcullis/jwks.json").await["sub"],
            "u1"
        );
    }
}

#[tokio::test]
async fn a_bound_assertion_names_its_request() {
    let upstream = mirror().await;
    let setup = asserting(&upstream, "bind = \"request\"\nheader = \"x-proof\"");
    let gateway = Gateway::start_in(with_key(Algorithm::ES256), &setup).await;
    let mut ids = Vec::new();
    for line in ["GET /a/%41?x=1", "POST /a/A"] {
        let fields = format!("{}content-length: 0\r\n", bearer(&token(600)));
        let text = ask(&gateway, line, &fields).await.text();
        let assertion = seen(&text, "x-proof")[0];
        let claims = verified(&gateway, assertion, "/_portcullis/jwks.json").await;
        assert_eq!(claims["path"], "/a/A");
        assert!(line.starts_with(claims["method"].as_str().unwrap()));
        ids.push(claims["jti"].clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn nobody_but_the_gateway_asserts_and_never_about_a_guest() {
    let upstream = mirror().await;
    let setup = asserting(&upstream, "");
    let gateway = Gateway::start_in(with_key(Algorithm::ES256), &setup).await;
    let forged = "x-portcullis-assertion: forged\r\nX_Portcullis_Assertion: forged\r\n\
                  x.portcullis-assertion: forged\r\n";
    let expired = bearer(&token(-600));
    let good = bearer(&token(600));
    for (line, credential) in [
        ("GET /a", ""),
        ("GET /a", &*expired),
        ("GET /public", &good),
        ("GET /without", &good),
    ] {
        let text = ask(&gateway, line, &format!("{credential}{forged}"))
            .await
            .text();
        assert!(text.starts_with("GET /"), "{text}");
        assert!(!text.to_lowercase().contains("assertion"), "{line}\n{text}");
    }
    // Also where nothing is signed at all.
    gateway.reload(&Setup::simple(&upstream.url)).await.unwrap();
    let text = ask(&gateway, "GET /a", forged).await.text();
    assert!(!text.to_lowercase().contains("assertion"), "{text}");
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_named_with_its_line() {
    let upstream = mirror().await;
    let setup = asserting(&upstream, "");
    let gateway = Gateway::start_in(with_key(Algorithm::ES256), &setup).await;
    let told = gateway
        .reload(&asserting(&upstream, "algorithm = \"EdDSA\""))
        .await;
    let told = told.unwrap_err();
    let line = asserting(&upstream, "").text();
    let line = line
        .lines()
        .position(|line| line.starts_with("key_file"))
        .unwrap()
        + 1;
    assert!(
        told.contains(&format!("portcullis.toml:{line}: ")),
        "{told}"
    );
    assert!(told.contains("does not fit its algorithm"), "{told}");
    assert!(told.contains("Ed25519 for EdDSA"), "{told}");
}
