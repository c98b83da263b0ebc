//! Section 1: forged and crippled tokens, through the whole gateway.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use portcullis::identity::mint::mint_hs256;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{Siege, get, setup, user};
use crate::harness::setup::{SECRET, token_with};

/// Who signs with a key pair: its public half is configured.
const PAIRED: &str = "https://paired.test";

fn now() -> u64 {
    portcullis::clock::Clock::System.now()
}

fn claims() -> Value {
    json!({"iss": "https://issuer.test", "sub": "u1", "exp": now() + 600})
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these bytes, signed with a shared secret.
fn signed(secret: &[u8], header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    sign(secret, &format!("{}.{}", encode(header), encode(payload)))
}

/// This text with a good signature behind it.
fn resigned(message: &str) -> String {
    sign(SECRET.as_bytes(), message)
}

fn sign(secret: &[u8], message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", encode(signature))
}

fn with_header(header: &str) -> String {
    signed(SECRET.as_bytes(), header, claims().to_string())
}

fn with_claims(change: Value) -> String {
    let mut claims = claims();
    let (known, change) = (claims.as_object_mut().unwrap(), change);
    for (name, value) in change.as_object().unwrap() {
        known.insert(name.clone(), value.clone());
    }
    mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

fn with_payload(payload: impl AsRef<[u8]>) -> String {
    signed(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, payload)
}

/// Each is sent to a route that demands a user and to one that lets guests in: refused there, and a marked
/// guest here, with no identity.
async fn hold(siege: &Siege, rows: &[(&str, String)]) {
    for (name, token) in rows {
        let answer = siege
            .strike(get("/api/x", &format!("token: {token}")))
            .await
            .unwrap();
        let got = siege.take().await;
        assert!(
            answer.status() == 401 && got.is_empty(),
            "{name}: {} {got:?}",
            answer.text()
        );
        siege
            .hold(&[(
                name,
                get("/maybe/x", &format!("token: {token}")),
                "200 invalid_token",
            )])
            .await;
    }
}

#[tokio::test]
async fn crippled_headers_are_refused() {
    let siege = Siege::lay().await;
    let mut rows = Vec::new();
    for alg in [
        "\"none\"",
        "\"None\"",
        "\"nOnE\"",
        "\"\"",
        "null",
        "256",
        "[\"HS256\"]",
        "\"HS256\\u0000\"",
        "\"HS256 \"",
        "\"hs256\"",
        "\"RS256\"",
        "\"HS384\"",
        "\"ES256\"",
        "\"EdDSA\"",
    ] {
        rows.push(("alg", with_header(&format!("{{\"alg\":{alg}}}"))));
        let unsigned = format!(
            "{}.{}.",
            encode(format!("{{\"alg\":{alg}}}")),
            encode(claims().to_string())
        );
        rows.push(("alg, unsigned", unsigned));
    }
    for more in [
        "\"crit\":[\"exp\"]",
        "\"crit\":[]",
        "\"crit\":\"x\"",
        "\"crit\":null",
        "\"b64\":false",
        "\"b64\":true",
        "\"zip\":\"DEF\"",
        "\"cty\":\"JWT\"",
        "\"typ\":\"dpop+jwt\"",
        "\"typ\":7",
        "\"kid\":7",
        "\"kid\":\"\"",
        "\"kid\":\"a\\u0000\"",
        "\"kid\":\"a\\r\\nb\"",
        "\"alg\":\"HS256\"",
    ] {
        rows.push((more, with_header(&format!("{{\"alg\":\"HS256\",{more}}}"))));
    }
    rows.push(("no alg", with_header("{}")));
    rows.push((
        "long kid",
        with_header(&format!(
            "{{\"alg\":\"HS256\",\"kid\":\"{}\"}}",
            "k".repeat(4096)
        )),
    ));
    rows.push(("no object", with_header("[]")));
    hold(&siege, &rows).await;
}

#[tokio::test]
async fn crippled_forms_are_refused() {
    let siege = Siege::lay().await;
    let good = token_with(600, json!({}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let mut flipped = signature.to_owned();
    let last = if flipped.pop() == Some('A') { 'B' } else { 'A' };
    flipped.push(last);
    let rows = [
        ("no signature", format!("{message}.")),
        ("no third part", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("empty payload", format!("{header}..{signature}")),
        ("empty header", format!(".{payload}.{signature}")),
        ("points", "..".to_owned()),
        ("truncated", good[..good.len() - 4].to_owned()),
        ("extended", format!("{good}AAAA")),
        (
            "half a mac",
            format!("{message}.{}", &signature[..signature.len() / 2]),
        ),
        ("another bit", format!("{message}.{flipped}")),
        ("padding", format!("{good}=")),
        (
            "other secret",
            signed(
                b"another secret of thirty-two byte",
                r#"{"alg":"HS256"}"#,
                claims().to_string(),
            ),
        ),
        (
            "empty secret",
            signed(b"", r#"{"alg":"HS256"}"#, claims().to_string()),
        ),
        (
            "payload swapped",
            format!(
                "{header}.{}.{signature}",
                encode(r#"{"iss":"https://issuer.test","sub":"root","exp":9999999999}"#)
            ),
        ),
        ("standard alphabet", {
            let payload = claims().to_string().replace('}', ",\"a\":\"~~~???>>>\"}");
            resigned(&format!("{header}.{}", STANDARD_NO_PAD.encode(payload)))
        }),
        (
            "trailing bits",
            resigned(&format!(
                "{}.{payload}",
                "eyJhbGciOiJIUzI1NiJ9".replace("J9", "J8")
            )),
        ),
        (
            "padding within",
            resigned(&format!("eyJhbGciOiJIUzI1NiIgfQ==.{payload}")),
        ),
    ];
    hold(&siege, &rows).await;
}

#[tokio::test]
async fn crippled_claims_are_refused() {
    let siege = Siege::lay().await;
    let now = now();
    let mut rows = Vec::new();
    for exp in [
        json!(null),
        json!("9999999999"),
        json!(true),
        json!([now + 600]),
        json!(-1),
        json!("2999-01-01T00:00:00Z"),
        json!(0),
        json!(now - 3600),
        json!(now - 31),
    ] {
        rows.push(("exp", with_claims(json!({"exp": exp}))));
    }
    for (name, value) in [
        ("nbf", json!(now + 3600)),
        ("nbf", json!("0")),
        ("nbf", json!(null)),
        ("iat", json!(now + 3600)),
        ("iat", json!("0")),
        ("iat", json!([])),
    ] {
        rows.push((name, with_claims(json!({name: value}))));
    }
    for iss in [
        json!(["https://issuer.test"]),
        json!("https://issuer.test/"),
        json!("https://issuer.tes"),
        json!("HTTPS://issuer.test"),
        json!("https://issuer.test.evil"),
        json!(null),
        json!(PAIRED),
    ] {
        rows.push(("iss", with_claims(json!({"iss": iss}))));
    }
    for sub in [json!(null), json!(""), json!(7), json!(["u1"]), json!({})] {
        rows.push(("sub", with_claims(json!({"sub": sub}))));
    }
    let text =
        |exp: &str| format!("{{\"iss\":\"https://issuer.test\",\"sub\":\"u1\",\"exp\":{exp}}}");
    for exp in ["1e400", "NaN", "-1e308"] {
        rows.push(("exp as text", with_payload(text(exp))));
    }
    rows.extend([
        (
            "no exp",
            with_payload(r#"{"iss":"https://issuer.test","sub":"u1"}"#),
        ),
        (
            "no iss",
            with_payload(format!("{{\"sub\":\"u1\",\"exp\":{}}}", now + 600)),
        ),
        (
            "no sub",
            with_payload(format!(
                "{{\"iss\":\"https://issuer.test\",\"exp\":{}}}",
                now + 600
            )),
        ),
        (
            "sub twice",
            with_payload(text(&format!("{},\"sub\":\"root\"", now + 600))),
        ),
        (
            "nested doubles",
            with_payload(text(&format!("{},\"a\":{{\"b\":1,\"b\":2}}", now + 600))),
        ),
        ("an array", with_payload("[]")),
        ("a string", with_payload("\"x\"")),
        ("nothing", with_payload("")),
        (
            "bom",
            with_payload(format!("\u{feff}{}", text(&(now + 600).to_string()))),
        ),
        (
            "trailing bytes",
            with_payload(text(&(now + 600).to_string()) + "x"),
        ),
        (
            "8-bit",
            with_payload([text(&(now + 600).to_string()).as_bytes(), b"\xff"].concat()),
        ),
        (
            "lone surrogate",
            with_payload(text(&format!("{},\"a\":\"\\ud800\"", now + 600))),
        ),
        (
            "deep",
            with_payload(text(&format!(
                "{},\"a\":{}{}",
                now + 600,
                "[".repeat(2000),
                "]".repeat(2000)
            ))),
        ),
    ]);
    hold(&siege, &rows).await;
    // Far away, and in fractions: no panic, no wrap.
    for exp in [
        "9223372036854775808",
        "18446744073709551616",
        "999999999999999999999999999999",
        "1e308",
        "4102444800.5",
        "1893456000000",
    ] {
        let token = with_payload(text(exp));
        let answer = siege
            .strike(get("/api/x", &format!("token: {token}")))
            .await
            .unwrap();
        assert!(
            matches!(answer.status(), 200 | 401),
            "{exp}: {}",
            answer.text()
        );
        siege.take().await;
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let pair = KeyPair::generate().unwrap();
    let pem = pair.public_key_pem();
    let folder = crate::harness::gateway::Folder::new();
    let file = folder.write("issuer.pem", &pem);
    let siege = Siege::lay_with(|url| {
        setup(url).piece(&format!(
            "[[issuer]]\nname = \"paired\"\niss = \"{PAIRED}\"\naudience = [\"us\"]\nalgorithms = [\"ES256\"]\npublic_key_file = {:?}",
            file.to_str().unwrap()
        ))
    })
    .await;
    let claims = json!({"iss": PAIRED, "sub": "u1", "aud": "us", "exp": now() + 600});
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let sign = |claims: &Value| {
        jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::ES256), claims, &key).unwrap()
    };
    let good = sign(&claims);
    let answer = siege
        .strike(get("/api/x", &format!("token: {good}")))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    siege.take().await;
    let der = STANDARD
        .decode(
            pem.lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap();
    let mut rows = Vec::new();
    for secret in [
        pem.as_bytes(),
        pem.trim_end().as_bytes(),
        &der,
        pair.public_key_raw(),
        b"",
    ] {
        for alg in ["HS256", "ES256", "HS512"] {
            rows.push((
                "a key as a secret",
                signed(secret, format!("{{\"alg\":\"{alg}\"}}"), claims.to_string()),
            ));
        }
    }
    let message = good.rsplit_once('.').unwrap().0;
    for (name, signature) in [
        ("zeros", vec![0; 64]),
        ("short", vec![1; 63]),
        ("long", vec![1; 65]),
        ("huge", vec![0xff; 64]),
        ("der", [vec![0x30, 6, 2, 1, 1, 2, 1, 1]].concat()),
    ] {
        rows.push((name, format!("{message}.{}", encode(signature))));
    }
    for aud in [
        json!([]),
        json!(["them"]),
        json!(""),
        json!("us,them"),
        json!("Us"),
        json!("u"),
        json!([["us"]]),
        json!({"us": 1}),
        json!(null),
    ] {
        let mut other = claims.clone();
        other["aud"] = aud;
        rows.push(("aud", sign(&other)));
    }
    let mut foreign = claims.clone();
    foreign["iss"] = json!("https://issuer.test");
    rows.push(("another issuer's name", sign(&foreign)));
    rows.push((
        "another issuer's secret",
        signed(SECRET.as_bytes(), r#"{"alg":"HS256"}"#, claims.to_string()),
    ));
    hold(&siege, &rows).await;
}

#[tokio::test]
async fn a_cached_token_is_known_by_all_of_it_and_no_longer_than_its_configuration() {
    let siege = Siege::lay().await;
    let t = user();
    let ask = |token: &str| get("/api/x", &format!("token: {token}"));
    for _ in 0..3 {
        assert_eq!(siege.strike(ask(&t)).await.unwrap().status(), 200);
    }
    siege.take().await;
    let (message, signature) = t.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let rows = [
        (
            "same head and claims",
            format!("{message}.{}", encode([7; 32])),
        ),
        (
            "same signature",
            format!("{header}.{}.{signature}", encode(claims().to_string())),
        ),
        ("same end", format!("x{t}")),
        ("a prefix", t[..t.len() - 1].to_owned()),
    ];
    hold(&siege, &rows).await;
    // A right that is missing is missing after a hit as well.
    for _ in 0..2 {
        let answer = siege
            .strike(get("/admin/x", &format!("token: {t}")))
            .await
            .unwrap();
        assert_eq!((answer.status(), &*answer.word()), (403, "role_missing"));
    }
    // Another secret for the same issuer: what was verified with the old one is unknown again.
    let url = siege.received.listen().await;
    let text = setup(&url)
        .text()
        .replace(SECRET, "Zb5nR8wC1yV4uK7eM0aT3oG6iS9xPqLd");
    siege.gateway.reload_text(&text).await.unwrap();
    let answer = siege.strike(ask(&t)).await.unwrap();
    assert_eq!(
        (answer.status(), &*answer.word()),
        (401, "token_signature_invalid")
    );
    // No issuer of that name at all.
    let text = setup(&url).text().replace(
        "iss = \"https://issuer.test\"",
        "iss = \"https://else.test\"",
    );
    siege.gateway.reload_text(&text).await.unwrap();
    let answer = siege.strike(ask(&t)).await.unwrap();
    assert_eq!((answer.status(), &*answer.word()), (401, "issuer_unknown"));
    assert!(siege.take().await.is_empty());
}
