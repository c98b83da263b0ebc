//! Tokens of the gateway's own accounts: sessions, revocations, opaque tokens, keys that change.

use super::tests::{NOW, build_with, credential, issuer, path, refusal};
use super::*;
use crate::config;
use crate::identity::access_token::{self, AUDIENCE, Life};
use crate::identity::jwks::JwksSources;
use crate::identity::keyring::{Keyring, SigningKey};
use crate::identity::testing::{TestStore, session, user};
use crate::identity::vault::{Purpose, Vault};
use crate::records::{KeyRecord, Session, User};
use crate::state::{Ended, Revocations};
use jsonwebtoken::Algorithm;
use serde_json::json;

const SECRET: &[u8] = b"kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE";
const ISS: &str = "https://gw.example/auth/v1";
const OPAQUE: &str = "0d9f3a52-5f0c-4a4e-9b7e-1c2d3e4f5a6b";

/// What may have become of a session and its user.
type Change = fn(&mut Session, &mut User);

struct House {
    store: Arc<TestStore>,
    own: Arc<OwnSessions>,
    clock: Clock,
    verifier: Verifier,
    local: LocalTokens,
}

fn key(kid: &str, from: i64) -> KeyRecord {
    let made = SigningKey::make(Algorithm::ES256).unwrap();
    let sealed = Vault::new(SECRET).seal(Purpose::SigningKeys, kid, made.private.expose());
    KeyRecord {
        kid: kid.into(),
        algorithm: "ES256".into(),
        sealed: sealed.unwrap(),
        created_at: from,
        signs_from: from,
        verifies_until: None,
    }
}

fn own_issuer() -> config::Issuer {
    config::Issuer {
        iss: ISS.into(),
        audience: vec![AUDIENCE.into()],
        algorithms: vec![Algorithm::ES256, Algorithm::HS256],
        roles: vec![path("role"), path("app_metadata.roles")],
        ..issuer("portcullis", Algorithm::ES256, config::KeySource::Own)
    }
}

fn verifier(own: Option<&Arc<OwnSessions>>, clock: &Clock) -> Verifier {
    let jwks = JwksSources::idle(clock.clone());
    let sources = KeySources { jwks: &jwks, own };
    build_with(&[own_issuer()], clock, sources)
}

impl House {
    async fn open() -> Self {
        let clock = Clock::manual(NOW);
        let store = Arc::new(TestStore::default());
        store.put_keys([key("k1", 0)]);
        let vault = Arc::new(Vault::new(SECRET));
        let keyring = Keyring::open(store.clone(), vault, clock.clone());
        let keyring = keyring.await.unwrap();
        let own = OwnSessions::new(keyring, store.clone(), Revocations::new(), clock.clone());
        Self {
            verifier: verifier(Some(&own), &clock),
            local: LocalTokens::new(8),
            store,
            own,
            clock,
        }
    }

    fn mint(&self, session: &Session, user: &User) -> String {
        let life = Life {
            issued_at: NOW,
            expires_at: NOW + 3600,
        };
        let claims = access_token::claims_of(user, session, ISS);
        let token = access_token::issue(self.own.keyring(), claims, life);
        token.unwrap().expose().clone()
    }

    async fn identify(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        let caller = self.verifier.identify(&self.local, credential(token), None);
        match caller.await {
            Caller::Known(identity) => Ok(identity),
            Caller::Unverified(refusal, _) => Err(refusal),
            Caller::Guest => panic!("a credential makes no guest"),
        }
    }

    async fn refused(&self, token: &str) -> Option<Refusal> {
        self.identify(token).await.err()
    }
}

#[tokio::test]
async fn an_access_token_is_worth_what_its_session_is_worth() {
    let house = House::open().await;
    let ada = user(1);
    let live = session(1, &ada);
    let changes: [(&str, Change); 6] = [
        ("ended", |session, _| session.ended_at = Some(1)),
        ("disabled", |_, user| user.disabled = true),
        ("deleted", |_, user| user.deleted_at = Some(1)),
        ("banned", |_, user| {
            user.banned_until = Some(NOW as i64 * 1000 + 1);
        }),
        ("another's", |_, user| user.id.0 = uuid::Uuid::from_u128(2)),
        ("not there", |session, _| {
            session.id.0 = uuid::Uuid::from_u128(9)
        }),
    ];
    house.store.put_session(&live, &ada);
    let identity = house.identify(&house.mint(&live, &ada)).await.unwrap();
    assert_eq!(*identity.user_id, *ada.id.to_string());
    assert_eq!(identity.session_id, Some(live.id.to_string().into()));
    assert_eq!(identity.ends_at, NOW + 3630);
    assert_eq!(identity.token_number(), None);
    for (at, (case, change)) in changes.into_iter().enumerate() {
        let (mut user, mut session) = (ada.clone(), session(10 + at as u128, &ada));
        let token = house.mint(&session, &ada);
        change(&mut session, &mut user);
        house.store.put_session(&session, &user);
        assert_eq!(
            house.refused(&token).await,
            Some(Refusal::TokenRevoked),
            "{case}"
        );
    }
    // A ban that is over.
    let (mut user, session) = (ada.clone(), session(20, &ada));
    user.banned_until = Some(NOW as i64 * 1000);
    house.store.put_session(&session, &user);
    assert_eq!(house.refused(&house.mint(&session, &user)).await, None);
}

#[tokio::test]
async fn the_store_is_asked_once_for_each_token_until_something_of_it_ends() {
    let house = House::open().await;
    let ada = user(1);
    let (one, other) = (session(1, &ada), session(2, &ada));
    house.store.put_session(&one, &ada);
    house.store.put_session(&other, &ada);
    let (first, second) = (house.mint(&one, &ada), house.mint(&other, &ada));
    let asked = || house.store.asked();
    let before = asked();
    for _ in 0..3 {
        assert_eq!(house.refused(&first).await, None);
        assert_eq!(house.refused(&second).await, None);
    }
    assert_eq!(asked(), before + 2);
    // Another worker finds it in the shared cache.
    let elsewhere = LocalTokens::new(4);
    let known = house
        .verifier
        .identify(&elsewhere, credential(&first), None);
    assert!(matches!(known.await, Caller::Known(_)));
    assert_eq!(asked(), before + 2);
    // The store first, then the register.
    let ended = Session {
        ended_at: Some(1),
        ..one.clone()
    };
    house.store.put_session(&ended, &ada);
    house.own.revocations().end(Ended::Session(one.id));
    assert!(house.verifier.recall(&elsewhere, &first).is_none());
    assert_eq!(house.refused(&first).await, Some(Refusal::TokenRevoked));
    assert_eq!(house.refused(&second).await, None);
    assert_eq!(asked(), before + 3);
}

#[tokio::test]
async fn what_ends_while_the_store_is_read_is_noticed_at_the_next_request() {
    let house = House::open().await;
    let ada = user(1);
    let one = session(1, &ada);
    house.store.put_session(&one, &ada);
    let token = house.mint(&one, &ada);
    // Read as living, ended in the store and in the register before it is remembered.
    let identified = house.identify(&token);
    let ends = async {
        house.own.revocations().end(Ended::User(ada.id));
    };
    let (identified, ()) = tokio::join!(identified, ends);
    assert!(identified.is_ok());
    let ended = Session {
        ended_at: Some(1),
        ..one
    };
    house.store.put_session(&ended, &ada);
    assert_eq!(house.refused(&token).await, Some(Refusal::TokenRevoked));
}

#[tokio::test]
async fn an_opaque_token_makes_the_identity_that_an_access_token_would() {
    let house = House::open().await;
    let ada = user(1);
    let talk = session(1, &ada);
    house.store.put_session(&talk, &ada);
    let hash = hash_of(OPAQUE).unwrap();
    house.store.put_token(7, hash, (&talk, &ada));
    let access = house.identify(&house.mint(&talk, &ada)).await.unwrap();
    let opaque = house.identify(OPAQUE).await.unwrap();
    assert_eq!(opaque.user_id, access.user_id);
    assert_eq!(opaque.session_id, access.session_id);
    assert_eq!(opaque.roles, access.roles);
    assert_eq!(opaque.headers, access.headers);
    assert_eq!(opaque.ends_at, LATEST);
    assert_eq!(opaque.token_number(), Some(7));
    let mut claims = access.claims.all().clone();
    claims.retain(|name, _| name != "iat" && name != "exp");
    assert_eq!(*opaque.claims.all(), claims);
    let before = house.store.asked();
    assert!(house.verifier.recall(&house.local, OPAQUE).is_some());
    assert_eq!(house.refused(OPAQUE).await, None);
    assert_eq!(house.store.asked(), before);
    // Revoked alone: the session lives on.
    house.store.remove_token(hash);
    house.own.revocations().end(Ended::Token(7));
    assert_eq!(house.refused(OPAQUE).await, Some(Refusal::TokenRevoked));
    assert_eq!(house.refused(&house.mint(&talk, &ada)).await, None);
}

#[tokio::test]
async fn an_opaque_token_has_one_spelling() {
    let house = House::open().await;
    let ada = user(1);
    let talk = session(1, &ada);
    house
        .store
        .put_token(7, hash_of(OPAQUE).unwrap(), (&talk, &ada));
    for other in [
        OPAQUE.to_uppercase(),
        OPAQUE.replace('-', ""),
        format!("{{{OPAQUE}}}"),
        format!("urn:uuid:{OPAQUE}"),
        OPAQUE.replace("0d9f", "0g9f"),
    ] {
        let refused = house.refused(&other).await;
        assert_eq!(refused, Some(Refusal::TokenMalformed), "{other}");
    }
    let unknown = OPAQUE.replace("0d9f", "0d9e");
    assert_eq!(house.refused(&unknown).await, Some(Refusal::TokenRevoked));
}

#[tokio::test]
async fn a_token_that_is_nobody_s_is_asked_for_once_in_a_while_and_never_for_long() {
    let house = House::open().await;
    let ada = user(1);
    let talk = session(1, &ada);
    let before = house.store.asked();
    for _ in 0..5 {
        assert_eq!(house.refused(OPAQUE).await, Some(Refusal::TokenRevoked));
    }
    assert_eq!(house.store.asked(), before + 1);
    // It is made meanwhile, which no chance would bring about: it is good within two seconds all the same.
    let hash = hash_of(OPAQUE).unwrap();
    house.store.put_token(7, hash, (&talk, &ada));
    house.clock.set(NOW + 2);
    assert_eq!(house.refused(OPAQUE).await, None);
}

#[tokio::test]
async fn those_who_make_tokens_up_wait_for_each_other_and_not_without_end() {
    let house = House::open().await;
    let token = |at: u32| format!("{at:08x}{}", &OPAQUE[8..]);
    let asked = (0..2000).map(|at| {
        let (house, token) = (&house, token(at));
        async move { house.refused(&token).await }
    });
    let refused = futures_util::future::join_all(asked).await;
    let busy = |it: &&Option<Refusal>| **it == Some(Refusal::StoreUnavailable);
    let turned_away = refused.iter().filter(busy).count();
    assert_eq!(turned_away, 2000 - 8 - 1000);
    let told = refused.iter().filter(|it| !busy(it));
    assert!(
        told.into_iter()
            .all(|it| *it == Some(Refusal::TokenRevoked))
    );
}

#[tokio::test]
async fn without_the_store_what_is_known_goes_on_and_nothing_else_comes_in() {
    let house = House::open().await;
    let ada = user(1);
    let (known, unseen) = (session(1, &ada), session(2, &ada));
    house.store.put_session(&known, &ada);
    house.store.put_session(&unseen, &ada);
    let (first, second) = (house.mint(&known, &ada), house.mint(&unseen, &ada));
    assert_eq!(house.refused(&first).await, None);
    house.store.go_away();
    assert_eq!(house.refused(&first).await, None);
    let unavailable = Some(Refusal::StoreUnavailable);
    assert_eq!(house.refused(&second).await, unavailable);
    assert_eq!(house.refused(OPAQUE).await, unavailable);
    // What may have ended is not known either.
    house.own.revocations().recheck(ada.id);
    assert_eq!(house.refused(&first).await, unavailable);
    house.store.come_back();
    assert_eq!(house.refused(&first).await, None);
    assert_eq!(house.refused(&second).await, None);
}

#[tokio::test]
async fn a_token_gives_the_rights_that_its_user_has_by_now() {
    let house = House::open().await;
    let mut ada = user(1);
    let roles = |roles: serde_json::Value| roles.as_object().unwrap().clone();
    ada.app_metadata = roles(json!({"roles": ["editor"]}));
    let session = session(1, &ada);
    house.store.put_session(&session, &ada);
    let token = house.mint(&session, &ada);
    let has = |identity: &Identity, role: &str| identity.roles.iter().any(|it| **it == *role);
    assert!(has(&house.identify(&token).await.unwrap(), "editor"));
    ada.app_metadata = roles(json!({"roles": ["reader"]}));
    house.store.put_session(&session, &ada);
    house.own.revocations().recheck(ada.id);
    let identity = house.identify(&token).await.unwrap();
    assert!(!has(&identity, "editor"));
    assert!(has(&identity, "reader"));
    assert!(identity.standing.is_some());
    assert_eq!(
        identity.claims.all()["session_id"],
        json!(session.id.to_string())
    );
}

#[tokio::test]
async fn keys_that_are_not_open_refuse_for_now() {
    let house = House::open().await;
    let token = house.mint(&session(1, &user(1)), &user(1));
    let closed = verifier(None, &house.clock);
    assert_eq!(
        refusal(&closed, &token).await,
        Some(Refusal::KeysUnavailable)
    );
    assert_eq!(
        refusal(&closed, OPAQUE).await,
        Some(Refusal::StoreUnavailable)
    );
    let last = closed.examine(OPAQUE).pop().unwrap();
    assert_eq!(last.outcome, Err(Refusal::StoreUnavailable));
}

#[tokio::test]
async fn a_key_that_was_made_elsewhere_is_found_at_its_first_token() {
    let house = House::open().await;
    let ada = user(1);
    let one = session(1, &ada);
    house.store.put_session(&one, &ada);
    house.store.put_keys([key("k2", 1), key("k1", 0)]);
    let vault = Arc::new(Vault::new(SECRET));
    let elsewhere = Keyring::open(house.store.clone(), vault, house.clock.clone());
    let claims = access_token::claims_of(&ada, &one, ISS);
    let life = Life {
        issued_at: NOW,
        expires_at: NOW + 60,
    };
    let token = access_token::issue(&elsewhere.await.unwrap(), claims, life).unwrap();
    assert_eq!(house.refused(token.expose()).await, None);
}

#[tokio::test]
async fn a_token_of_ours_is_no_access_token_unless_it_says_so() {
    let house = House::open().await;
    let ada = user(1);
    let one = session(1, &ada);
    house.store.put_session(&one, &ada);
    let mut claims = access_token::claims_of(&ada, &one, ISS);
    claims.insert("exp".into(), json!(NOW + 60));
    let sign = |typ, claims: &Map<String, Value>| house.own.keyring().sign(typ, claims).unwrap();
    assert_eq!(house.refused(&sign("JWT", &claims)).await, None);
    for typ in ["assertion+jwt", "logout+jwt"] {
        let refused = house.refused(&sign(typ, &claims)).await;
        assert_eq!(refused, Some(Refusal::TokenMalformed), "{typ}");
    }
    for (claim, value) in [
        ("session_id", json!(null)),
        ("session_id", json!("s1")),
        ("sub", json!("u1")),
    ] {
        let mut claims = claims.clone();
        claims.insert(claim.to_owned(), value);
        let refused = house.refused(&sign("JWT", &claims)).await;
        assert_eq!(refused, Some(Refusal::TokenClaimsInvalid), "{claim}");
    }
}

#[tokio::test]
async fn a_stream_is_judged_again_without_the_store() {
    let house = House::open().await;
    let ada = user(1);
    let (one, talk) = (session(1, &ada), session(2, &ada));
    house.store.put_session(&one, &ada);
    house
        .store
        .put_token(7, hash_of(OPAQUE).unwrap(), (&talk, &ada));
    let access = house.identify(&house.mint(&one, &ada)).await.unwrap();
    let opaque = house.identify(OPAQUE).await.unwrap();
    house.store.go_away();
    let review = |identity, allowed| house.verifier.review(identity, allowed).map(drop);
    for identity in [&access, &opaque] {
        assert_eq!(review(identity, None), Ok(()));
        assert_eq!(review(identity, Some(&[0])), Ok(()));
        assert_eq!(review(identity, Some(&[1])), Err(Refusal::IssuerUnknown));
        let other = build_with(
            &[],
            &house.clock,
            KeySources {
                jwks: &JwksSources::idle(house.clock.clone()),
                own: None,
            },
        );
        assert!(other.review(identity, None).is_err());
    }
    house.own.revocations().end(Ended::Session(talk.id));
    assert_eq!(review(&access, None), Ok(()));
    assert_eq!(review(&opaque, None), Err(Refusal::TokenRevoked));
}

#[tokio::test]
async fn the_use_of_a_session_is_noted_once_a_minute() {
    let house = House::open().await;
    let ada = user(1);
    let one = session(1, &ada);
    house.store.put_session(&one, &ada);
    let (first, second) = (house.mint(&one, &ada), house.mint(&one, &ada));
    for token in [&first, &first, &second] {
        assert_eq!(house.refused(token).await, None);
    }
    house.own.flush_uses().await.unwrap();
    house.own.flush_uses().await.unwrap();
    let now = NOW as i64 * 1000;
    assert_eq!(house.store.touched(), [(one.id, now)]);
    house.clock.set(NOW + 59);
    house.refused(&first).await;
    house.own.flush_uses().await.unwrap();
    assert_eq!(house.store.touched().len(), 1);
    house.clock.set(NOW + 60);
    house.refused(&first).await;
    // What the store does not take waits.
    house.store.go_away();
    assert!(house.own.flush_uses().await.is_err());
    house.store.come_back();
    house.own.flush_uses().await.unwrap();
    assert_eq!(house.store.touched()[1..], [(one.id, now + 60_000)]);
}
