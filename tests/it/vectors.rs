//! Published test vectors (Project Wycheproof, RFC examples) against the signature layer. The files lie
//! beside the crate, or where PORTCULLIS_SHARED says; without them the tests say so and pass.

use std::fs;
use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use portcullis::identity::jwt::Jws;
use portcullis::identity::key::Key;
use portcullis::identity::keyset::KeySet;
use serde_json::{Map, Value};

#[test]
fn json_web_signatures_are_judged_as_the_vectors_say() {
    judge_tokens("json_web_signature_test", 397);
}

#[test]
fn json_web_keys_are_judged_as_the_vectors_say() {
    judge_tokens("json_web_key_test", 25);
}

#[test]
fn encrypted_tokens_are_refused_and_signed_ones_judged() {
    judge_tokens("json_web_crypto_test", 83);
}

#[test]
fn ecdsa_signatures_are_judged_as_the_vectors_say() {
    judge_raw(
        "ecdsa_secp256r1_sha256_p1363_test",
        Algorithm::ES256,
        "publicKeyPem",
    );
    judge_raw(
        "ecdsa_secp384r1_sha384_p1363_test",
        Algorithm::ES384,
        "publicKeyPem",
    );
}

#[test]
fn eddsa_signatures_are_judged_as_the_vectors_say() {
    judge_raw("ed25519_test", Algorithm::EdDSA, "publicKeyPem");
    judge_raw("ed25519_test", Algorithm::EdDSA, "publicKeyJwk");
}

#[test]
fn rsa_signatures_are_judged_as_the_vectors_say() {
    judge_raw(
        "rsa_signature_2048_sha256_test",
        Algorithm::RS256,
        "publicKeyPem",
    );
    judge_raw(
        "rsa_signature_2048_sha384_test",
        Algorithm::RS384,
        "publicKeyPem",
    );
    judge_raw(
        "rsa_signature_2048_sha512_test",
        Algorithm::RS512,
        "publicKeyPem",
    );
    judge_raw(
        "rsa_pss_2048_sha256_mgf1_32_test",
        Algorithm::PS256,
        "publicKeyPem",
    );
    judge_raw(
        "rsa_pss_2048_sha256_mgf1_32_test",
        Algorithm::PS256,
        "publicKeyJwk",
    );
}

#[test]
fn macs_are_judged_as_the_vectors_say_and_never_when_truncated() {
    for (file, algorithm, bits) in [
        ("hmac_sha256_test", Algorithm::HS256, 256),
        ("hmac_sha384_test", Algorithm::HS384, 384),
        ("hmac_sha512_test", Algorithm::HS512, 512),
    ] {
        let Some(vectors) = read(&format!("wycheproof/{file}.json")) else {
            return;
        };
        for (group, test) in cases(&vectors) {
            let whole = group["tagSize"] == bits;
            let key = Key::secret(&hex(&test["key"]));
            let judged = key.is_ok_and(|key| {
                let message = hex(&test["msg"]);
                key.verify(algorithm, &message, &hex(&test["tag"]))
            });
            let strong = hex(&test["key"]).len() >= 32;
            let wanted = test["result"] == "valid" && whole && strong;
            assert_eq!(judged, wanted, "{file} {}", test["tcId"]);
        }
    }
}

#[test]
fn the_examples_of_the_rfcs_are_judged_as_printed() {
    let Some(examples) = read("rfc/jws_examples.json") else {
        return;
    };
    for case in examples["cases"].as_array().unwrap() {
        let jws = case["jws"].as_str().unwrap();
        let valid = case["jwk"].as_object().is_some_and(|jwk| {
            let key = Key::jwk(jwk).unwrap();
            Jws::read(jws).is_ok_and(|jws| jws.verify(&key).is_ok())
        });
        assert_eq!(valid, case["expect"] == "valid", "{}", case["name"]);
    }
}

/// Judges each `jws` of a file with its group's key or key set; `count` cases must have been judged.
fn judge_tokens(file: &str, count: usize) {
    let Some(vectors) = read(&format!("wycheproof/{file}.json")) else {
        return;
    };
    let overrides = read("wycheproof/overrides.json").unwrap();
    let mut judged = 0;
    for (group, test) in cases(&vectors) {
        let required = &overrides[file][test["tcId"].to_string()][0];
        let wanted = match required.as_str() {
            Some("skip") => continue,
            Some(other) => other,
            None => test["result"].as_str().unwrap(),
        };
        let keys = group.get("public").or_else(|| group.get("private"));
        let valid = is_signed(test["jws"].as_str(), keys.unwrap());
        // Encrypted tokens have no place here, well-made ones neither.
        let wanted = wanted == "valid" && test.get("jws").is_some();
        assert_eq!(
            valid, wanted,
            "{file} {}: {}",
            test["tcId"], test["comment"]
        );
        judged += 1;
    }
    assert_eq!(judged, count);
}

fn is_signed(jws: Option<&str>, trusted: &Value) -> bool {
    let Some(Ok(jws)) = jws.map(Jws::read) else {
        return false;
    };
    let Some(entries) = trusted["keys"].as_array() else {
        return Key::jwk(trusted.as_object().unwrap()).is_ok_and(|key| jws.verify(&key).is_ok());
    };
    // A set never hands out secrets, so a file of secrets alone stands for several configured ones.
    if entries.iter().all(|entry| entry["kty"] == "oct") {
        let kid = jws.header.kid.as_deref();
        let named = entries.iter().filter(|entry| entry["kid"].as_str() == kid);
        let named: Vec<&Map<String, Value>> = named.filter_map(Value::as_object).collect();
        return matches!(named[..], [one] if Key::jwk(one).is_ok_and(|key| jws.verify(&key).is_ok()));
    }
    KeySet::parse(trusted.to_string().as_bytes()).is_ok_and(|set| set.verify(&jws).is_ok())
}

/// Judges each message and signature of a file with its group's key, taken from the member `form`.
fn judge_raw(file: &str, algorithm: Algorithm, form: &str) {
    let Some(vectors) = read(&format!("wycheproof/{file}.json")) else {
        return;
    };
    for (group, test) in cases(&vectors) {
        let key = match &group[form] {
            Value::String(pem) => Key::pem(pem),
            Value::Object(jwk) => Key::jwk(jwk),
            _ => continue,
        };
        let judged =
            key.is_ok_and(|key| key.verify(algorithm, &hex(&test["msg"]), &hex(&test["sig"])));
        // "acceptable" is leniency that nobody needs.
        assert_eq!(
            judged,
            test["result"] == "valid",
            "{file} {}: {}",
            test["tcId"],
            test["comment"]
        );
    }
}

fn cases(vectors: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let groups = vectors["testGroups"].as_array().unwrap().iter();
    groups.flat_map(|group| {
        let tests = group["tests"].as_array().unwrap().iter();
        tests.map(move |test| (group, test))
    })
}

fn hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// A file of the vectors; `None`, and a line that says so, where there are none.
#[expect(
    clippy::print_stderr,
    reason = "a skipped test must be seen to be skipped"
)]
fn read(name: &str) -> Option<Value> {
    let shared = std::env::var_os("PORTCULLIS_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")),
        PathBuf::from,
    );
    let path = shared.join("vectors").join(name);
    let Ok(text) = fs::read(&path) else {
        eprintln!("SKIPPED vectors: {} is not there", path.display());
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}
