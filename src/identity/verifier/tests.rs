use super::*;
use crate::config::{self, ClaimPath, IdentityHeaders};
use crate::identity::jwks::JwksSources;
use crate::identity::jwks::tests::{Answer, Source, fetched};
use crate::identity::mint::{MintKey, mint_hs256};
use crate::identity::testing::TestKey;
use crate::request::credential::Place;
use http::HeaderName;
use jsonwebtoken::Algorithm;
use serde_json::json;

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(super) fn path(text: &str) -> ClaimPath {
    ClaimPath(text.split('.').map(Box::from).collect())
}

pub(super) fn issuer(name: &str, algorithm: Algorithm, keys: config::KeySource) -> config::Issuer {
    config::Issuer {
        name: name.into(),
        iss: format!("https://{name}.example").into(),
        audience: vec!["app".into()],
        algorithms: vec![algorithm],
        keys,
        roles: vec![path("role")],
        trust_user_metadata: false,
    }
}

pub(super) fn hs256(name: &str) -> config::Issuer {
    let secret = config::KeySource::Secret(Secret::new(SECRET.into()));
    issuer(name, Algorithm::HS256, secret)
}

pub(super) fn build(issuers: &[config::Issuer], clock: &Clock) -> Verifier {
    build_with(
        issuers,
        clock,
        fetched_only(&JwksSources::idle(clock.clone())),
    )
}

pub(super) fn build_with(
    issuers: &[config::Issuer],
    clock: &Clock,
    sources: KeySources<'_>,
) -> Verifier {
    let identity = IdentityHeaders {
        status_header: HeaderName::from_static("x-auth-status"),
        request_id_header: HeaderName::from_static("x-request-id"),
        assertion_header: HeaderName::from_static("x-portcullis-assertion"),
        headers: vec![
            (HeaderName::from_static("x-user-id"), path("sub")),
            (HeaderName::from_static("x-user-role"), path("role")),
        ],
    };
    let tokens = Tokens {
        leeway: 30,
        cache_size: 100,
        worker_cache_size: 4,
        cache_time: Duration::from_secs(300),
    };
    let issuers = Issuer::build_all(issuers, &identity, sources).unwrap();
    Verifier::of(issuers, tokens, clock.clone())
}

fn fetched_only(jwks: &JwksSources) -> KeySources<'_> {
    KeySources { jwks, own: None }
}

fn claims() -> Value {
    json!({"iss": "https://one.example", "aud": "app", "exp": NOW + 60, "sub": "u1", "role": "a,b"})
}

pub(super) fn credential(token: &str) -> Option<Credential> {
    Some(Credential {
        token: Secret::new(token.into()),
        place: Place::Bearer,
    })
}

pub(super) async fn refusal(verifier: &Verifier, token: &str) -> Option<Refusal> {
    let local = LocalTokens::new(4);
    match verifier.identify(&local, credential(token), None).await {
        Caller::Unverified(refusal, _) => Some(refusal),
        Caller::Guest | Caller::Known(_) => None,
    }
}

#[tokio::test]
async fn no_credential_makes_a_guest_and_a_good_one_an_identity() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let local = LocalTokens::new(4);
    let guest = verifier.identify(&local, None, None).await;
    assert!(matches!(guest, Caller::Guest));
    let token = mint_hs256(SECRET, &claims()).unwrap();
    let Caller::Known(identity) = verifier.identify(&local, credential(&token), None).await else {
        panic!("a good token makes an identity");
    };
    assert_eq!(&*identity.user_id, "u1");
    assert_eq!(identity.ends_at, NOW + 90);
    assert_eq!(&**identity.token.expose(), token);
    let lines = b"x-user-id: u1\r\nx-user-role: a%2Cb\r\n";
    assert_eq!(identity.headers.as_bytes(), lines);
    assert_eq!(*identity.roles, [Box::from("a,b")]);
}

#[tokio::test]
async fn each_fault_has_its_own_word() {
    let one = TestKey::es256();
    let pem = config::KeySource::PublicKey(one.public_pem().into());
    let issuers = [hs256("one"), issuer("two", Algorithm::ES256, pem)];
    let verifier = build(&issuers, &Clock::manual(NOW));
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        mint_hs256(SECRET, &claims).unwrap()
    };
    let without_iss = json!({"aud": "app", "exp": NOW + 60, "sub": "u1"});
    let hs512 = MintKey::secret(Algorithm::HS512, SECRET).unwrap();
    let es_claims = |iss: &str| {
        let mut claims = claims();
        claims["iss"] = json!(iss);
        claims
    };
    let rows = [
        (with("exp", json!(NOW - 30)), Refusal::TokenExpired),
        (with("exp", json!(null)), Refusal::TokenClaimsInvalid),
        (with("nbf", json!(NOW + 31)), Refusal::TokenNotYetValid),
        (with("aud", json!("other")), Refusal::AudienceMismatch),
        (with("sub", json!("")), Refusal::TokenClaimsInvalid),
        (with("sub", json!("a\r\nx: y")), Refusal::TokenClaimsInvalid),
        (
            with("iss", json!("https://one.example/")),
            Refusal::IssuerUnknown,
        ),
        (
            with("iss", json!("https://one.exampl")),
            Refusal::IssuerUnknown,
        ),
        (
            with("iss", json!("https://ONE.example")),
            Refusal::IssuerUnknown,
        ),
        (
            with("iss", json!(["https://one.example"])),
            Refusal::IssuerUnknown,
        ),
        (
            mint_hs256(SECRET, &without_iss).unwrap(),
            Refusal::IssuerUnknown,
        ),
        (hs512.mint(&claims()).unwrap(), Refusal::AlgorithmRefused),
        // The other issuer's key, and the other issuer's algorithm.
        (
            one.mint(None, &es_claims("https://one.example")),
            Refusal::AlgorithmRefused,
        ),
        (
            with("iss", json!("https://two.example")),
            Refusal::AlgorithmRefused,
        ),
        (
            TestKey::es256().mint(None, &es_claims("https://two.example")),
            Refusal::TokenSignatureInvalid,
        ),
        // A bad signature is told before what the claims say.
        (
            mint_hs256(
                b"another secret of thirty-two byt",
                &json!({"iss": "https://one.example"}),
            )
            .unwrap(),
            Refusal::TokenSignatureInvalid,
        ),
        ("nonsense".to_owned(), Refusal::TokenMalformed),
        (format!("a.b.{}", "c".repeat(9000)), Refusal::TokenMalformed),
    ];
    for (token, wanted) in rows {
        assert_eq!(refusal(&verifier, &token).await, Some(wanted), "{token}");
    }
    let good = one.mint(Some("any"), &es_claims("https://two.example"));
    assert_eq!(refusal(&verifier, &good).await, None);
}

#[tokio::test]
async fn a_token_of_an_issuer_that_the_route_does_not_honour_is_unverified() {
    let verifier = build(&[hs256("one"), hs256("two")], &Clock::manual(NOW));
    let local = LocalTokens::new(4);
    let token = mint_hs256(SECRET, &claims()).unwrap();
    // Twice, so that the second is a hit: the rule holds for both.
    for _ in 0..2 {
        let caller = verifier
            .identify(&local, credential(&token), Some(&[1]))
            .await;
        assert!(matches!(
            caller,
            Caller::Unverified(Refusal::IssuerUnknown, _)
        ));
        let caller = verifier
            .identify(&local, credential(&token), Some(&[0]))
            .await;
        assert!(matches!(caller, Caller::Known(_)));
    }
}

#[tokio::test]
async fn a_known_token_is_recalled_until_it_ends() {
    let clock = Clock::manual(NOW);
    let verifier = build(&[hs256("one")], &clock);
    let local = LocalTokens::new(4);
    let token = mint_hs256(SECRET, &claims()).unwrap();
    assert!(verifier.recall(&local, &token).is_none());
    verifier.identify(&local, credential(&token), None).await;
    assert!(verifier.recall(&local, &token).is_some());
    clock.set(NOW + 89);
    assert!(verifier.recall(&local, &token).is_some());
    clock.set(NOW + 90);
    assert!(verifier.recall(&local, &token).is_none());
    let caller = verifier.identify(&local, credential(&token), None).await;
    assert!(matches!(
        caller,
        Caller::Unverified(Refusal::TokenExpired, _)
    ));
}

#[tokio::test]
async fn another_token_with_the_same_end_is_another_token() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let local = LocalTokens::new(4);
    let token = mint_hs256(SECRET, &claims()).unwrap();
    verifier.identify(&local, credential(&token), None).await;
    let forged = format!("x{}", &token[1..]);
    assert!(verifier.recall(&local, &forged).is_none());
    assert!(refusal(&verifier, &forged).await.is_some());
}

#[tokio::test]
async fn the_second_worker_finds_what_the_first_verified() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let (first, second) = (LocalTokens::new(4), LocalTokens::new(4));
    let token = mint_hs256(SECRET, &claims()).unwrap();
    verifier.identify(&first, credential(&token), None).await;
    verifier.identify(&second, credential(&token), None).await;
    let counted = |local: &LocalTokens| {
        let counts = local.counts();
        (counts.hits.get(), counts.misses.get())
    };
    assert_eq!(counted(&first), (0, 1));
    assert_eq!(counted(&second), (1, 0));
}

#[tokio::test]
async fn a_worker_keeps_no_more_than_its_bound_and_what_is_used_stays() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let local = LocalTokens::new(4);
    let token = |sub: u32| {
        let mut claims = claims();
        claims["sub"] = json!(sub.to_string());
        mint_hs256(SECRET, &claims).unwrap()
    };
    let tokens: Vec<String> = (0..20).map(token).collect();
    for token in &tokens {
        verifier.identify(&local, credential(token), None).await;
        verifier
            .identify(&local, credential(&tokens[0]), None)
            .await;
    }
    let kept = tokens
        .iter()
        .filter(|token| verifier.recall(&local, token).is_some());
    assert!((1..=4).contains(&kept.count()));
    assert!(verifier.recall(&local, &tokens[0]).is_some());
}

#[tokio::test]
async fn a_new_configuration_starts_with_no_token() {
    let clock = Clock::manual(NOW);
    let local = LocalTokens::new(4);
    let token = mint_hs256(SECRET, &claims()).unwrap();
    let before = build(&[hs256("one")], &clock);
    before.identify(&local, credential(&token), None).await;
    let after = build(&[hs256("two")], &clock);
    assert!(after.recall(&local, &token).is_none());
}

#[tokio::test]
async fn a_refused_token_is_never_among_the_verified_ones() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let local = LocalTokens::new(4);
    let forged = mint_hs256(b"another secret of thirty-two byt", &claims()).unwrap();
    for _ in 0..3 {
        verifier.identify(&local, credential(&forged), None).await;
    }
    assert_eq!(local.counts().hits.get(), 0);
}

#[test]
fn explain_names_each_step_up_to_the_refusal() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let words = |token: &str| -> Vec<(&'static str, Option<Refusal>)> {
        let steps = verifier.examine(token).into_iter();
        steps.map(|step| (step.what, step.outcome.err())).collect()
    };
    let good = mint_hs256(SECRET, &claims()).unwrap();
    assert_eq!(
        words(&good),
        [
            "form",
            "issuer",
            "algorithm",
            "signature",
            "claims",
            "identity"
        ]
        .map(|w| (w, None))
    );
    let forged = mint_hs256(b"another secret of thirty-two byt", &claims()).unwrap();
    let steps = words(&forged);
    assert_eq!(
        steps.last(),
        Some(&("signature", Some(Refusal::TokenSignatureInvalid)))
    );
}

#[test]
fn the_claims_of_a_test_block_make_an_identity_as_a_token_would() {
    let verifier = build(&[hs256("one")], &Clock::manual(NOW));
    let object = |value: Value| value.as_object().unwrap().clone();
    let identity = verifier
        .identify_claims(0, object(json!({"sub": "u"})))
        .unwrap();
    assert_eq!(identity.ends_at, LATEST);
    assert_eq!(
        verifier.identify_claims(0, object(json!({}))).unwrap_err(),
        Refusal::TokenClaimsInvalid
    );
    let expired = json!({"sub": "u", "aud": "app", "exp": 1});
    assert_eq!(
        verifier.identify_claims(0, object(expired)).unwrap_err(),
        Refusal::TokenExpired
    );
}

#[test]
fn a_key_that_does_not_fit_the_algorithms_is_a_build_error() {
    let pem = config::KeySource::PublicKey(TestKey::es384().public_pem().into());
    let identity = IdentityHeaders {
        status_header: HeaderName::from_static("s"),
        request_id_header: HeaderName::from_static("r"),
        assertion_header: HeaderName::from_static("a"),
        headers: Vec::new(),
    };
    let sources = JwksSources::idle(Clock::manual(NOW));
    let bad = [issuer("two", Algorithm::ES256, pem)];
    let error = Issuer::build_all(&bad, &identity, fetched_only(&sources)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "issuer \"two\": none of its algorithms fits its keys"
    );
}

/// A verifier of one issuer whose keys come from `source`, and a function that mints its tokens.
pub(super) async fn fetching(source: &Source) -> Verifier {
    let clock = Clock::manual(NOW);
    let runtime = tokio::runtime::Handle::current();
    let sources = JwksSources::fetching(runtime, clock.clone());
    let keys = config::KeySource::JwksUrl(source.settings());
    let verifier = build_with(
        &[issuer("one", Algorithm::ES256, keys)],
        &clock,
        fetched_only(&sources),
    );
    fetched(jwks_of(&verifier.issuers[0]).unwrap(), 1).await;
    verifier
}

#[tokio::test]
async fn a_rotation_costs_its_first_token_one_fetch_and_drops_what_the_old_key_signed() {
    let (old, new) = (TestKey::es256(), TestKey::es256());
    let source = Source::start(Answer::keys(&[old.jwk("old")])).await;
    let verifier = fetching(&source).await;
    let local = LocalTokens::new(4);
    let signed_by_old = old.mint(Some("old"), &claims());
    verifier
        .identify(&local, credential(&signed_by_old), None)
        .await;
    assert!(verifier.recall(&local, &signed_by_old).is_some());

    source.say(Answer::keys(&[new.jwk("new")]));
    let signed_by_new = new.mint(Some("new"), &claims());
    assert_eq!(refusal(&verifier, &signed_by_new).await, None);
    assert_eq!(source.hits(), 2);
    assert!(verifier.recall(&local, &signed_by_old).is_none());
    assert_eq!(
        refusal(&verifier, &signed_by_old).await,
        Some(Refusal::KeyUnknown)
    );
    // That refusal asked for no third fetch: the second is too young.
    assert_eq!(source.hits(), 2);
}

#[tokio::test]
async fn a_new_key_under_the_same_name_is_fetched_when_the_old_one_fails() {
    let (old, new) = (TestKey::es256(), TestKey::es256());
    let source = Source::start(Answer::keys(&[old.jwk("k")])).await;
    let verifier = fetching(&source).await;
    source.say(Answer::keys(&[new.jwk("k")]));
    assert_eq!(
        refusal(&verifier, &new.mint(Some("k"), &claims())).await,
        None
    );
    let forged = TestKey::es256().mint(Some("k"), &claims());
    assert_eq!(
        refusal(&verifier, &forged).await,
        Some(Refusal::TokenSignatureInvalid)
    );
    assert_eq!(source.hits(), 2);
}

#[tokio::test]
async fn what_is_no_matter_of_keys_triggers_no_fetch() {
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("k")])).await;
    let verifier = fetching(&source).await;
    let expired = json!({"iss": "https://one.example", "aud": "app", "exp": 1, "sub": "u"});
    let hs256 = MintKey::secret(Algorithm::HS256, SECRET).unwrap();
    let rows = [
        (
            hs256.clone().with_kid("k").mint(&claims()).unwrap(),
            Refusal::AlgorithmRefused,
        ),
        (
            hs256.with_kid("x").mint(&claims()).unwrap(),
            Refusal::AlgorithmRefused,
        ),
        (
            TestKey::ed25519().mint(Some("x"), &claims()),
            Refusal::AlgorithmRefused,
        ),
        (key.mint(Some("k"), &expired), Refusal::TokenExpired),
        ("a.b.c".to_owned(), Refusal::TokenMalformed),
    ];
    for (token, wanted) in rows {
        assert_eq!(refusal(&verifier, &token).await, Some(wanted));
    }
    assert_eq!(source.hits(), 1);
}

#[tokio::test]
async fn before_any_keys_arrived_they_are_unavailable_and_readiness_says_so() {
    let clock = Clock::manual(NOW);
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("k")])).await;
    let keys = config::KeySource::JwksUrl(source.settings());
    let verifier = build(
        &[hs256("two"), issuer("one", Algorithm::ES256, keys)],
        &clock,
    );
    let token = key.mint(Some("k"), &claims());
    assert_eq!(
        refusal(&verifier, &token).await,
        Some(Refusal::KeysUnavailable)
    );
    let status: Vec<_> = verifier.key_status().collect();
    assert!(matches!(status[..], [(name, JwksStatus { loaded: false, .. })] if **name == *"one"));
}
