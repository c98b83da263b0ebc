//! Refused tokens, remembered: which, how long, and how many. That one was judged shows in the count of misses.

use super::tests::*;
use super::*;
use crate::config;
use crate::identity::jwks::tests::{Answer, Source};
use crate::identity::mint::mint_hs256;
use crate::identity::refused::LONGEST;
use crate::identity::testing::TestKey;
use jsonwebtoken::Algorithm;
use serde_json::json;

const OTHER: &[u8] = b"another secret of thirty-two byt";

/// A worker and its gate's verifier.
struct Desk {
    verifier: Verifier,
    local: LocalTokens,
}

impl Desk {
    fn of(verifier: Verifier) -> Self {
        Self {
            verifier,
            local: LocalTokens::new(4),
        }
    }

    /// Why it is refused, and how many tokens were judged for that.
    async fn ask(&self, token: &str) -> (Option<Refusal>, u64) {
        let judged = || self.local.counts().misses.get();
        let before = judged();
        let caller = self.verifier.identify(&self.local, credential(token), None);
        let refusal = match caller.await {
            Caller::Unverified(refusal, _) => Some(refusal),
            Caller::Guest | Caller::Known(_) => None,
        };
        (refusal, judged() - before)
    }

    /// The same for a token that is not remembered before it was judged for the second time.
    async fn ask_twice(&self, token: &str) -> (Option<Refusal>, u64) {
        let (first, once) = self.ask(token).await;
        let (second, twice) = self.ask(token).await;
        assert_eq!(first, second);
        (first, once + twice)
    }
}

fn expiring(exp: u64) -> Value {
    json!({"iss": "https://one.example", "aud": "app", "exp": exp, "sub": "u1"})
}

fn forged(sub: &str) -> String {
    let mut claims = expiring(NOW + 60);
    claims["sub"] = json!(sub);
    mint_hs256(OTHER, &claims).unwrap()
}

#[tokio::test]
async fn what_is_true_of_the_bytes_is_judged_twice_and_all_else_each_time() {
    let desk = Desk::of(build(&[hs256("one")], &Clock::manual(NOW)));
    let with = |name: &str, value: Value| {
        let mut claims = expiring(NOW + 60);
        claims[name] = value;
        mint_hs256(SECRET, &claims).unwrap()
    };
    let twice = mint_hs256(SECRET, &json!({"iss": "https://one.example"})).unwrap();
    let rows = [
        (forged("u1"), Refusal::TokenSignatureInvalid, 0),
        (with("exp", json!(NOW - 30)), Refusal::TokenExpired, 0),
        ("a.b.c".into(), Refusal::TokenMalformed, 0),
        (with("nbf", json!(NOW + 31)), Refusal::TokenNotYetValid, 1),
        (with("aud", json!("other")), Refusal::AudienceMismatch, 1),
        (with("iss", json!("https://x")), Refusal::IssuerUnknown, 1),
        (twice, Refusal::TokenClaimsInvalid, 1),
    ];
    for (token, refusal, again) in rows {
        let judged = desk.ask_twice(&token).await;
        assert_eq!(judged, (Some(refusal), 2), "{refusal:?}");
        for _ in 0..2 {
            let asked = desk.ask(&token).await;
            assert_eq!(asked, (Some(refusal), again), "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn a_ban_is_not_remembered_as_a_fault_of_the_token() {
    let bans = Bans::new();
    let verifier = build(&[hs256("one")], &Clock::manual(NOW)).heeding(&bans);
    let desk = Desk::of(verifier);
    let token = mint_hs256(SECRET, &expiring(NOW + 60)).unwrap();
    bans.add(&crate::state::bans::Banned::User("u1".into()), NOW);
    for _ in 0..3 {
        assert_eq!(desk.ask(&token).await, (Some(Refusal::TokenRevoked), 1));
    }
}

#[tokio::test]
async fn what_has_expired_is_good_again_where_the_clock_is_set_back() {
    let clock = Clock::manual(NOW);
    let desk = Desk::of(build(&[hs256("one")], &clock));
    let token = mint_hs256(SECRET, &expiring(NOW - 30)).unwrap();
    let expired = Some(Refusal::TokenExpired);
    assert_eq!(desk.ask_twice(&token).await, (expired, 2));
    clock.set(NOW + 1000);
    assert_eq!(desk.ask(&token).await, (expired, 0));
    clock.set(NOW - 1);
    assert_eq!(desk.ask(&token).await, (None, 1));
    clock.set(NOW);
    assert_eq!(desk.ask(&token).await, (expired, 0));
}

#[tokio::test]
async fn a_token_that_expires_while_it_is_known_is_refused_from_then_on() {
    let clock = Clock::manual(NOW);
    let desk = Desk::of(build(&[hs256("one")], &clock));
    let token = mint_hs256(SECRET, &expiring(NOW + 60)).unwrap();
    assert_eq!(desk.ask(&token).await, (None, 1));
    clock.set(NOW + 90);
    let refused = desk.ask_twice(&token).await;
    assert_eq!(refused, (Some(Refusal::TokenExpired), 2));
    assert_eq!(desk.ask(&token).await, (Some(Refusal::TokenExpired), 0));
}

#[tokio::test]
async fn a_new_configuration_judges_again() {
    let clock = Clock::manual(NOW);
    let desk = Desk::of(build(&[hs256("one")], &clock));
    let token = forged("u1");
    let refused = Some(Refusal::TokenSignatureInvalid);
    assert_eq!(desk.ask_twice(&token).await, (refused, 2));
    assert_eq!(desk.ask(&token).await, (refused, 0));
    let secret = config::KeySource::Secret(Secret::new(OTHER.into()));
    let verifier = build(&[issuer("one", Algorithm::HS256, secret)], &clock);
    let desk = Desk { verifier, ..desk };
    assert_eq!(desk.ask(&token).await, (None, 1));
}

#[tokio::test]
async fn keys_that_change_are_asked_again() {
    let (old, new) = (TestKey::es256(), TestKey::es256());
    let source = Source::start(Answer::keys(&[old.jwk("old")])).await;
    let desk = Desk::of(fetching(&source).await);
    let token = old.mint(Some("old"), &expiring(1));
    let refused = desk.ask_twice(&token).await;
    assert_eq!(refused, (Some(Refusal::TokenExpired), 2));
    assert_eq!(desk.ask(&token).await, (Some(Refusal::TokenExpired), 0));

    source.say(Answer::keys(&[new.jwk("new")]));
    let fresh = new.mint(Some("new"), &expiring(NOW + 60));
    assert_eq!(desk.ask(&fresh).await.0, None);
    assert_eq!(desk.ask(&token).await.0, Some(Refusal::KeyUnknown));
}

#[tokio::test]
async fn a_failure_that_newer_keys_may_mend_is_never_remembered() {
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("k")])).await;
    let desk = Desk::of(fetching(&source).await);
    let other = TestKey::es256();
    for (kid, refusal) in [
        ("k", Refusal::TokenSignatureInvalid),
        ("unknown", Refusal::KeyUnknown),
    ] {
        let token = other.mint(Some(kid), &expiring(NOW + 60));
        for _ in 0..3 {
            let (refused, judged) = desk.ask(&token).await;
            assert_eq!(refused, Some(refusal));
            assert!(judged > 0, "{kid}");
        }
    }
}

#[tokio::test]
async fn garbage_pushes_out_no_good_token_and_no_more_of_it_is_kept_than_the_bound_says() {
    let desk = Desk::of(build(&[hs256("one")], &Clock::manual(NOW)));
    let good = mint_hs256(SECRET, &expiring(NOW + 60)).unwrap();
    assert_eq!(desk.ask(&good).await, (None, 1));
    let garbage: Vec<String> = (0..100).map(|number| forged(&number.to_string())).collect();
    for token in &garbage {
        assert_eq!(desk.ask_twice(token).await.1, 2);
    }
    assert!(desk.verifier.recall(&desk.local, &good).is_some());
    let mut known = 0;
    for token in &garbage {
        known += usize::from(desk.verifier.recall_refused(&desk.local, token).is_some());
    }
    assert!((1..=4).contains(&known), "{known}");
}

#[tokio::test]
async fn what_comes_once_leaves_no_token_behind() {
    let desk = Desk::of(build(&[hs256("one")], &Clock::manual(NOW)));
    let kept = forged("kept");
    desk.ask_twice(&kept).await;
    for number in 0..100 {
        desk.ask(&forged(&number.to_string())).await;
    }
    assert_eq!(desk.ask(&kept).await.1, 0);
}

#[tokio::test]
async fn another_token_with_the_same_end_is_judged_by_itself() {
    let desk = Desk::of(build(&[hs256("one")], &Clock::manual(NOW)));
    let good = mint_hs256(SECRET, &expiring(NOW + 60)).unwrap();
    let (header, rest) = good.split_once('.').unwrap();
    // Its last bytes, by which it is found, are those of the good one.
    let bad = format!("{header}.e30{}", &rest[3..]);
    assert!(desk.ask_twice(&bad).await.0.is_some());
    assert_eq!(desk.ask(&good).await, (None, 1));
    assert!(desk.ask(&bad).await.0.is_some());
}

#[tokio::test]
async fn neither_a_long_token_nor_any_without_a_time_to_remember_is_kept() {
    let mut desk = Desk::of(build(&[hs256("one")], &Clock::manual(NOW)));
    let refused = Some(Refusal::TokenSignatureInvalid);
    let long = forged(&"u".repeat(LONGEST));
    for _ in 0..3 {
        assert_eq!(desk.ask(&long).await, (refused, 1));
    }
    desk.verifier.cache_time = Duration::ZERO;
    for _ in 0..3 {
        assert_eq!(desk.ask(&forged("u1")).await, (refused, 1));
    }
}
