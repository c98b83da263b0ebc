use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::*;
use crate::identity::testing::{TestKey, TestStore, rsa_pem};

const SECRET: &[u8] = b"kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE";

fn keys() -> [(Algorithm, String); 3] {
    // A second installation is refused, which is as good.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    [
        (Algorithm::ES256, TestKey::es256().private_pem().to_owned()),
        (Algorithm::RS256, rsa_pem().0),
        (
            Algorithm::EdDSA,
            TestKey::ed25519().private_pem().to_owned(),
        ),
    ]
}

/// A sealed key that signs from `from` until it verifies no more, in seconds.
fn record(kid: &str, algorithm: Algorithm, (from, until): (i64, Option<i64>)) -> KeyRecord {
    let made = SigningKey::make(algorithm).unwrap();
    let vault = Vault::new(SECRET);
    let sealed = vault.seal(Purpose::SigningKeys, kid, made.private.expose());
    KeyRecord {
        kid: kid.into(),
        algorithm: format!("{algorithm:?}").into(),
        sealed: sealed.unwrap(),
        created_at: from * 1000,
        signs_from: from * 1000,
        verifies_until: until.map(|until| until * 1000),
    }
}

fn es256(kid: &str, times: (i64, Option<i64>)) -> KeyRecord {
    record(kid, Algorithm::ES256, times)
}

async fn open(store: &Arc<TestStore>, clock: &Clock) -> Result<Arc<Keyring>, ReadError> {
    let vault = Arc::new(Vault::new(SECRET));
    Keyring::open(store.clone(), vault, clock.clone()).await
}

fn sign(keyring: &Keyring) -> String {
    keyring.sign("JWT", &json!({"sub": "u"})).unwrap()
}

fn kid(token: &str) -> String {
    Jws::read(token).unwrap().header.kid.unwrap().into()
}

fn verify(keyring: &Keyring, token: &str) -> Result<(), Refusal> {
    keyring.verify(&Jws::read(token).unwrap())
}

fn published(keyring: &Keyring) -> Vec<String> {
    let document: Value = serde_json::from_slice(&keyring.document()).unwrap();
    let keys = document["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_it_signs_is_verified_with_what_it_publishes() {
    for (algorithm, pem) in keys() {
        let keyring = Keyring::new(SigningKey::pem(algorithm, &pem, None).unwrap(), Vec::new());
        let claims = json!({"sub": "u1", "aud": "app", "exp": 4_000_000_000_u64});
        let token = keyring.sign("assertion+jwt", &claims).unwrap();
        let header = decode_header(&token).unwrap();
        assert_eq!(header.typ.as_deref(), Some("assertion+jwt"));
        let set: JwkSet = serde_json::from_slice(&keyring.document()).unwrap();
        let jwk = set.find(&header.kid.unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&["app"]);
        let key = DecodingKey::from_jwk(jwk).unwrap();
        let read = decode::<Value>(&token, &key, &validation).unwrap();
        assert_eq!(read.claims, claims, "{algorithm:?}");
    }
}

#[test]
fn older_keys_are_published_and_no_private_part_is() {
    let [(_, new), (_, rsa), (_, old)] = keys();
    let new = SigningKey::pem(Algorithm::ES256, &new, Some("new")).unwrap();
    let older = [
        SigningKey::pem(Algorithm::EdDSA, &old, Some("old")).unwrap(),
        SigningKey::pem(Algorithm::RS256, &rsa, Some("rsa")).unwrap(),
    ];
    let document: Value =
        serde_json::from_slice(&Keyring::new(new, older.into()).document()).unwrap();
    let keys = document["keys"].as_array().unwrap();
    let names: Vec<_> = keys
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["new", "old", "rsa"]);
    for key in keys {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private}");
        }
        assert_eq!(key["use"], "sig");
        assert_eq!(key["key_ops"], json!(["verify"]));
    }
}

#[tokio::test]
async fn each_key_is_published_before_it_signs_and_verifies_until_its_end() {
    let clock = Clock::manual(100);
    let store = Arc::new(TestStore::default());
    let old = es256("old", (0, None));
    store.put_keys([old.clone()]);
    let keyring = open(&store, &clock).await.unwrap();
    let first = sign(&keyring);
    assert_eq!(kid(&first), "old");
    // Standby.
    store.put_keys([
        es256("new", (200, None)),
        KeyRecord {
            verifies_until: Some(300_000),
            ..old
        },
    ]);
    keyring.refresh().await.unwrap();
    assert_eq!(published(&keyring), ["new", "old"]);
    assert_eq!(kid(&sign(&keyring)), "old");
    // In use and previously used, without any reading.
    clock.set(200);
    let second = sign(&keyring);
    assert_eq!(kid(&second), "new");
    assert_eq!(verify(&keyring, &first), Ok(()));
    assert_eq!(verify(&keyring, &second), Ok(()));
    assert_eq!(keyring.generation(), 0);
    // Ended.
    clock.set(300);
    assert_eq!(verify(&keyring, &first), Err(Refusal::KeyUnknown));
    keyring.refresh().await.unwrap();
    assert_eq!(published(&keyring), ["new"]);
    assert_eq!(keyring.generation(), 1);
    assert_eq!(verify(&keyring, &second), Ok(()));
}

#[tokio::test]
async fn a_shared_secret_signs_and_verifies_and_is_never_listed() {
    let store = Arc::new(TestStore::default());
    store.put_keys([record("hs", Algorithm::HS256, (0, None))]);
    let keyring = open(&store, &Clock::manual(100)).await.unwrap();
    assert_eq!(verify(&keyring, &sign(&keyring)), Ok(()));
    assert_eq!(keyring.document(), r#"{"keys":[]}"#);
}

#[tokio::test]
async fn a_token_without_a_key_id_is_tried_with_those_that_fit() {
    let store = Arc::new(TestStore::default());
    store.put_keys([
        es256("es", (0, None)),
        record("hs", Algorithm::HS256, (0, None)),
    ]);
    let keyring = open(&store, &Clock::manual(100)).await.unwrap();
    let forged = TestKey::es256().mint(None, &json!({"sub": "u"}));
    let refused = Err(Refusal::TokenSignatureInvalid);
    assert_eq!(verify(&keyring, &forged), refused);
    let other = TestKey::ed25519().mint(None, &json!({"sub": "u"}));
    assert_eq!(verify(&keyring, &other), Err(Refusal::KeyUnknown));
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once_for_all_who_ask_and_at_most_once_a_second() {
    let store = Arc::new(TestStore::default());
    store.put_keys([es256("old", (0, None))]);
    let clock = Clock::manual(100);
    let keyring = open(&store, &clock).await.unwrap();
    store.put_keys([es256("new", (50, None)), es256("old", (0, None))]);
    let before = store.asked();
    let (one, other, third) = tokio::join!(keyring.reload(), keyring.reload(), keyring.reload());
    assert!(one && other && third);
    assert_eq!(store.asked(), before + 1);
    assert_eq!(kid(&sign(&keyring)), "new");
    assert!(!keyring.reload().await);
    assert_eq!(store.asked(), before + 1);
}

#[tokio::test]
async fn the_keys_in_hand_stay_while_the_store_is_away() {
    let store = Arc::new(TestStore::default());
    store.put_keys([es256("k", (0, None))]);
    let keyring = open(&store, &Clock::manual(100)).await.unwrap();
    store.go_away();
    assert!(matches!(
        keyring.refresh().await,
        Err(ReadError::Store(StoreError::Unavailable(_)))
    ));
    assert_eq!(verify(&keyring, &sign(&keyring)), Ok(()));
}

#[tokio::test]
async fn keys_of_another_secret_open_nothing() {
    let store = Arc::new(TestStore::default());
    let mut foreign = es256("foreign", (10, None));
    let other = Vault::new(b"another secret of thirty-two bytes");
    foreign.sealed = other.seal(Purpose::SigningKeys, "foreign", b"key").unwrap();
    store.put_keys([foreign.clone()]);
    let opened = open(&store, &Clock::manual(100)).await;
    assert!(matches!(opened, Err(ReadError::Sealed)));
    store.put_keys([foreign, es256("ours", (0, None))]);
    let keyring = open(&store, &Clock::manual(100)).await.unwrap();
    assert_eq!(published(&keyring), ["ours"]);
}

#[tokio::test]
async fn without_a_key_nothing_is_signed_and_nothing_verified() {
    let store = Arc::new(TestStore::default());
    let keyring = open(&store, &Clock::manual(100)).await.unwrap();
    assert!(!keyring.has_keys());
    let refused = keyring.sign("JWT", &json!({}));
    assert_eq!(refused, Err(KeyringError::NoKey));
    let token = TestKey::es256().mint(Some("k"), &json!({"sub": "u"}));
    assert_eq!(verify(&keyring, &token), Err(Refusal::KeysUnavailable));
    assert_eq!(keyring.document(), r#"{"keys":[]}"#);
    let closed = Keyring::closed();
    assert!(!closed.reload().await);
    assert_eq!(verify(&closed, &token), Err(Refusal::KeysUnavailable));
}

#[tokio::test]
async fn a_clock_that_is_behind_signs_with_the_first_key() {
    let store = Arc::new(TestStore::default());
    store.put_keys([es256("b", (200, None)), es256("a", (150, None))]);
    let keyring = open(&store, &Clock::manual(100)).await.unwrap();
    assert_eq!(kid(&sign(&keyring)), "a");
}

#[test]
fn one_document_lists_the_keys_of_several_keyrings_once() {
    let key = |kid| SigningKey::pem(Algorithm::ES256, TestKey::es256().private_pem(), Some(kid));
    let ring = |kid| Arc::new(Keyring::new(key(kid).unwrap(), Vec::new()));
    let rings = [ring("a"), ring("b"), ring("a")];
    let set: JwkSet = serde_json::from_slice(&document_of(&rings)).unwrap();
    assert_eq!(set.keys.len(), 2);
}
