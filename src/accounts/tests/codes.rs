//! One-time codes, from the asking to the log-in.

use std::time::Duration;

use serde_json::Value;

use crate::accounts::codes::{CreateUser, Proof, Verification};
use crate::accounts::testing::{Bench, PASSWORD, login, secret, who};
use crate::accounts::users::{Registration, SignedUp, UserUpdate};
use crate::accounts::{AccountError, SignedIn};
use crate::records::{Api, Client, CodeKind, Object};

/// The mails so far, when there are `count`.
async fn mails(bench: &Bench, count: usize) -> Vec<Value> {
    let file = bench.folder.file("mails");
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let whole = text.lines().filter(|_| text.ends_with('\n'));
        let mails: Vec<Value> = whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if mails.len() >= count {
            return mails;
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    panic!("the mails did not come");
}

async fn verify(bench: &Bench, proof: Proof, kind: CodeKind) -> Result<SignedIn, AccountError> {
    let verification = Verification {
        proof,
        kinds: vec![kind],
    };
    let client = Client::default();
    bench
        .accounts
        .verify(Api::Supabase, verification, &client)
        .await
}

fn code(email: &str, code: &str) -> Proof {
    Proof::Code {
        email: email.to_owned(),
        code: code.to_owned(),
    }
}

fn text(mail: &Value, name: &str) -> String {
    mail[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_code_lets_its_owner_in_once() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    let client = Client::default();
    let asked = bench.accounts.recover(
        "Ada@mail.example",
        Some("https://x.example".into()),
        &client,
    );
    asked.await.unwrap();
    let mail = mails(&bench, 1).await.remove(0);
    assert_eq!(mail["to"], "ada@mail.example");
    assert_eq!(mail["kind"], "recovery");
    assert_eq!(mail["redirect_to"], "https://x.example");
    let digits = text(&mail, "code");
    assert!(digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let right = || code("ada@mail.example", &digits);
    let wrong_kind = verify(&bench, right(), CodeKind::Magiclink).await;
    assert_eq!(wrong_kind.err(), Some(AccountError::CodeInvalid));
    let signed_in = verify(&bench, right(), CodeKind::Recovery).await.unwrap();
    assert_eq!(signed_in.user.id, user.id);
    assert_eq!(&*signed_in.session.authentication.method, "otp");
    let again = verify(&bench, right(), CodeKind::Recovery).await;
    assert_eq!(again.err(), Some(AccountError::CodeInvalid));
}

#[tokio::test]
async fn a_link_leads_only_where_the_config_lets_it() {
    let bench = Bench::with(|config| config.mail.resend_after = Duration::ZERO).await;
    bench.ada().await;
    let asked = [
        ("https://x.example", true),
        ("https://x.example/reset?a=b", true),
        ("https://x.example#a", true),
        ("https://x.example.evil.example", false),
        ("https://x.example@evil.example", false),
        ("https://x.example:8443/", false),
        ("https://x.example\\@evil.example", false),
        ("https://x.example/\nevil", false),
        ("//x.example", false),
        ("https://evil.example/?https://x.example", false),
        ("", false),
    ];
    for (index, (to, leads)) in asked.into_iter().enumerate() {
        let client = Client::default();
        let asked = bench
            .accounts
            .recover("ada@mail.example", Some(to.to_owned()), &client);
        asked.await.unwrap();
        let mail = mails(&bench, index + 1).await.remove(index);
        assert_eq!(mail.get("redirect_to").is_some(), leads, "{to:?}");
    }
}

#[tokio::test]
async fn a_link_is_as_good_as_a_code_and_both_grow_old() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    bench
        .accounts
        .recover("ada@mail.example", None, &client)
        .await
        .unwrap();
    let mail = mails(&bench, 1).await.remove(0);
    let link = Proof::Link(text(&mail, "token_hash"));
    assert!(verify(&bench, link, CodeKind::Recovery).await.is_ok());
    bench.pass(61);
    bench
        .accounts
        .recover("ada@mail.example", None, &client)
        .await
        .unwrap();
    let mail = mails(&bench, 2).await.remove(1);
    bench.pass(3600);
    let old = code("ada@mail.example", &text(&mail, "code"));
    let old = verify(&bench, old, CodeKind::Recovery).await;
    assert_eq!(old.err(), Some(AccountError::CodeInvalid));
}

#[tokio::test]
async fn nobody_is_told_whether_an_address_is_known_and_mails_are_not_sent_too_often() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    for email in [
        "nobody@mail.example",
        "ada@mail.example",
        "ada@mail.example",
    ] {
        let asked = bench.accounts.recover(email, None, &client).await;
        assert_eq!(asked, Ok(()), "{email}");
    }
    mails(&bench, 1).await;
    bench.pass(61);
    bench
        .accounts
        .recover("ada@mail.example", None, &client)
        .await
        .unwrap();
    let mails = mails(&bench, 2).await;
    assert!(mails.iter().all(|mail| mail["to"] == "ada@mail.example"));
    let bad = bench.accounts.recover("nonsense", None, &client).await;
    assert_eq!(bad, Err(AccountError::InvalidEmail));
}

#[tokio::test]
async fn codes_cannot_be_guessed_for_long() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mut answers = Vec::new();
    for guess in 0..6 {
        let guess = code("ada@mail.example", &format!("{guess:06}"));
        answers.push(verify(&bench, guess, CodeKind::Recovery).await.err());
    }
    assert!(matches!(answers[5], Some(AccountError::TooMany { .. })));
}

#[tokio::test]
async fn no_other_spelling_of_the_address_gives_more_guesses() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mut answers = Vec::new();
    for spelling in [
        "ada@mail.example",
        "ada@ｍail.example",
        "ada@mａil.example",
        "ada@maｉl.example",
        "ada@maiｌ.example",
        "ada＠mail.example",
    ] {
        let guess = code(spelling, "123456");
        answers.push(verify(&bench, guess, CodeKind::Recovery).await.err());
    }
    assert_eq!(answers[4], Some(AccountError::CodeInvalid));
    assert!(matches!(answers[5], Some(AccountError::TooMany { .. })));
}

#[tokio::test]
async fn a_sign_up_waits_for_its_confirmation_and_tells_nobody_who_is_there() {
    let bench = Bench::with(|config| config.confirm_email = true).await;
    let client = Client::default();
    let sign_up = || {
        let new = Registration {
            username: None,
            email: Some("ada@mail.example".to_owned()),
            password: secret(PASSWORD),
            user_metadata: Object::new(),
            redirect_to: None,
        };
        bench.accounts.sign_up(Api::Supabase, new, &client)
    };
    let SignedUp::Unconfirmed(user) = sign_up().await.unwrap() else {
        panic!("nobody has confirmed anything");
    };
    let refused = bench
        .try_log_in(Api::Token, "ada@mail.example", PASSWORD)
        .await;
    assert_eq!(refused.err(), Some(AccountError::EmailNotConfirmed));
    let mail = mails(&bench, 1).await.remove(0);
    let link = Proof::Link(text(&mail, "token_hash"));
    let signed_in = verify(&bench, link, CodeKind::Signup).await.unwrap();
    assert_eq!(signed_in.user.id, user.id);
    assert!(signed_in.user.email_confirmed_at.is_some());
    assert!(
        bench
            .try_log_in(Api::Token, "ada@mail.example", PASSWORD)
            .await
            .is_ok()
    );
    let SignedUp::Unconfirmed(made_up) = sign_up().await.unwrap() else {
        panic!("a taken address is not told");
    };
    assert_ne!(made_up.id, user.id);
    assert_eq!(made_up.email, user.email);
}

#[tokio::test]
async fn whoever_signs_up_again_before_confirming_is_mailed_again_after_a_while() {
    let bench = Bench::with(|config| config.confirm_email = true).await;
    let client = Client::default();
    let sign_up = async |place: &str| {
        let new = Registration {
            username: None,
            email: Some("ada@mail.example".to_owned()),
            password: secret(PASSWORD),
            user_metadata: Object::new(),
            redirect_to: Some(format!("https://x.example/{place}")),
        };
        let signed_up = bench.accounts.sign_up(Api::Supabase, new, &client).await;
        assert!(matches!(signed_up, Ok(SignedUp::Unconfirmed(_))));
    };
    // One mail is made after the other: whatever came before this one is done with.
    let recover = async |count: usize| {
        let asked = bench.accounts.recover("ada@mail.example", None, &client);
        asked.await.unwrap();
        let mail = mails(&bench, count).await.remove(count - 1);
        assert_eq!(mail["kind"], "recovery");
    };
    sign_up("first").await;
    let first = mails(&bench, 1).await.remove(0);
    sign_up("too-soon").await;
    recover(2).await;
    bench.pass(60);
    sign_up("again").await;
    let mail = mails(&bench, 3).await.remove(2);
    assert_eq!(first["redirect_to"], "https://x.example/first");
    assert_eq!(mail["redirect_to"], "https://x.example/again");
    assert_eq!(
        (&mail["kind"], &mail["user_id"]),
        (&first["kind"], &first["user_id"])
    );
    let proof = code("ada@mail.example", &text(&mail, "code"));
    verify(&bench, proof, CodeKind::Signup).await.unwrap();
    // Confirmed, the address gets no mail that a stranger asks for.
    bench.pass(60);
    sign_up("stranger").await;
    recover(4).await;
}

#[tokio::test]
async fn a_stranger_s_password_does_not_open_the_address_that_its_owner_confirms() {
    for (kind, opens) in [
        (CodeKind::Magiclink, false),
        (CodeKind::Recovery, false),
        (CodeKind::Signup, true),
    ] {
        let bench = Bench::with(|config| {
            config.confirm_email = true;
            config.mail.resend_after = Duration::ZERO;
        })
        .await;
        let client = Client::default();
        let registration = Registration {
            username: None,
            email: Some("ada@mail.example".to_owned()),
            password: secret(PASSWORD),
            user_metadata: Object::new(),
            redirect_to: None,
        };
        let signed_up = bench.accounts.sign_up(Api::Supabase, registration, &client);
        signed_up.await.unwrap();
        let mut mail = mails(&bench, 1).await.remove(0);
        let to = "ada@mail.example";
        match kind {
            CodeKind::Magiclink => {
                let made = (CreateUser::No, Object::new());
                bench.accounts.otp((to, None), made, &client).await.unwrap();
                mail = mails(&bench, 2).await.remove(1);
            }
            CodeKind::Recovery => {
                bench.accounts.recover(to, None, &client).await.unwrap();
                mail = mails(&bench, 2).await.remove(1);
            }
            _ => {}
        }
        let proof = code(to, &text(&mail, "code"));
        verify(&bench, proof, kind).await.unwrap();
        let login = login(to, PASSWORD);
        let logged_in = bench.accounts.log_in(Api::Supabase, login, &client).await;
        assert_eq!(logged_in.is_ok(), opens, "{kind:?}");
    }
}

#[tokio::test]
async fn whoever_is_made_up_is_called_what_a_new_user_would_be() {
    let bench = Bench::with(|config| config.confirm_email = true).await;
    let client = Client::default();
    let mut named = Vec::new();
    // A name that is free each time: the second address is taken by then.
    for (email, name) in [
        ("ada@mail.example", "ada"),
        ("ada@mail.example", "lovelace"),
        ("ada@mail.example", "Ada"),
    ] {
        let new = Registration {
            username: None,
            email: Some(email.to_owned()),
            password: secret(PASSWORD),
            user_metadata: Object::from_iter([("username".to_owned(), name.into())]),
            redirect_to: None,
        };
        let signed_up = bench.accounts.sign_up(Api::Supabase, new, &client).await;
        let Ok(SignedUp::Unconfirmed(user)) = signed_up else {
            panic!("nobody has confirmed anything");
        };
        assert!(!user.user_metadata.contains_key("username"));
        named.push(user.username.map(|name| name.shown));
    }
    assert_eq!(named, [Some("ada".into()), Some("lovelace".into()), None]);
}

#[tokio::test]
async fn an_address_is_changed_when_the_new_one_is_confirmed() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Supabase).await);
    let client = Client::default();
    let update = UserUpdate {
        email: Some("lovelace@mail.example".to_owned()),
        ..UserUpdate::default()
    };
    let changed = bench
        .accounts
        .change_user(Api::Supabase, mine, (update, &client))
        .await;
    let user = changed.unwrap();
    assert_eq!(&*user.email.unwrap().0, "ada@mail.example");
    assert!(user.email_change.is_some());
    let mail = mails(&bench, 1).await.remove(0);
    assert_eq!(mail["to"], "lovelace@mail.example");
    let link = Proof::Link(text(&mail, "token_hash"));
    let signed_in = verify(&bench, link, CodeKind::EmailChange).await.unwrap();
    assert_eq!(&*signed_in.user.email.unwrap().0, "lovelace@mail.example");
    assert!(signed_in.user.email_change.is_none());
}

#[tokio::test]
async fn the_digits_of_a_change_are_told_with_the_address_that_they_were_sent_to() {
    let bench = Bench::new().await;
    let wanted = "lovelace@mail.example";
    let mut users = Vec::new();
    for name in ["eve", "ada"] {
        bench
            .register(name, &format!("{name}@mail.example"))
            .await
            .unwrap();
        let signed_in = bench.try_log_in(Api::Supabase, name, PASSWORD).await;
        let mine = who(&signed_in.unwrap());
        let update = UserUpdate {
            email: Some(wanted.to_owned()),
            ..UserUpdate::default()
        };
        let changed = bench
            .accounts
            .change_user(Api::Supabase, mine, (update, &Client::default()))
            .await;
        users.push(changed.unwrap().id);
        mails(&bench, users.len()).await;
    }
    let mails = mails(&bench, 2).await;
    // Of two who want the address, the one whose digits they are gets it.
    let digits = text(&mails[1], "code");
    for (email, kind) in [
        ("nobody@mail.example", CodeKind::EmailChange),
        (wanted, CodeKind::Recovery),
    ] {
        let refused = verify(&bench, code(email, &digits), kind).await.err();
        assert_eq!(refused, Some(AccountError::CodeInvalid), "{email}");
    }
    let signed_in = verify(&bench, code(wanted, &digits), CodeKind::EmailChange).await;
    let user = signed_in.unwrap().user;
    assert_eq!((user.id, &*user.email.unwrap().0), (users[1], wanted));
    let late = code(wanted, &text(&mails[0], "code"));
    let late = verify(&bench, late, CodeKind::EmailChange).await.err();
    assert!(late.is_some());
}

#[tokio::test]
async fn a_user_cannot_send_mails_to_everybody() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Supabase).await);
    let client = Client::default();
    let change = |email: &str| {
        let update = UserUpdate {
            email: Some(email.to_owned()),
            ..UserUpdate::default()
        };
        bench
            .accounts
            .change_user(Api::Supabase, mine, (update, &client))
    };
    assert!(change("eve@mail.example").await.is_ok());
    let soon = change("bob@mail.example").await;
    let retry_after = Duration::from_secs(60);
    assert_eq!(
        soon.err(),
        Some(AccountError::MailedJustNow { retry_after })
    );
    bench.pass(60);
    assert!(change("bob@mail.example").await.is_ok());
    let mails = mails(&bench, 2).await;
    assert_eq!(mails[1]["to"], "bob@mail.example");
}

#[tokio::test]
async fn a_code_to_log_in_with_makes_a_user_where_it_may() {
    let bench = Bench::new().await;
    let client = Client::default();
    let ask = |email, create| {
        bench
            .accounts
            .otp((email, None), (create, Object::new()), &client)
    };
    ask("eve@mail.example", CreateUser::No).await.unwrap();
    ask("ada@mail.example", CreateUser::Yes).await.unwrap();
    let mail = mails(&bench, 1).await.remove(0);
    assert_eq!(mail["to"], "ada@mail.example");
    let proof = code("ada@mail.example", &text(&mail, "code"));
    let signed_in = verify(&bench, proof, CodeKind::Magiclink).await.unwrap();
    assert!(signed_in.user.email_confirmed_at.is_some());
    let no_password = bench.try_log_in(Api::Token, "ada@mail.example", "").await;
    assert_eq!(no_password.err(), Some(AccountError::InvalidCredentials));
}

#[tokio::test]
async fn a_new_password_voids_what_was_sent() {
    let bench = Bench::with(|config| config.mail.resend_after = Duration::ZERO).await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Supabase).await);
    let client = Client::default();
    bench
        .accounts
        .recover("ada@mail.example", None, &client)
        .await
        .unwrap();
    let mail = mails(&bench, 1).await.remove(0);
    let update = UserUpdate {
        password: Some(secret("battery staple")),
        ..UserUpdate::default()
    };
    let changed = bench
        .accounts
        .change_user(Api::Supabase, mine, (update, &client))
        .await;
    changed.unwrap();
    let link = Proof::Link(text(&mail, "token_hash"));
    let void = verify(&bench, link, CodeKind::Recovery).await;
    assert_eq!(void.err(), Some(AccountError::CodeInvalid));
}

#[tokio::test]
async fn an_old_session_changes_the_password_with_a_mailed_code_only() {
    let bench =
        Bench::with(|config| config.password.require_recent = Some(Duration::from_secs(3600)))
            .await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Supabase).await);
    let client = Client::default();
    let change = async |new: &str, nonce: Option<&str>| {
        let update = UserUpdate {
            password: Some(secret(new)),
            nonce: nonce.map(str::to_owned),
            ..UserUpdate::default()
        };
        let changed = bench
            .accounts
            .change_user(Api::Supabase, mine, (update, &client))
            .await;
        changed.map(|user| user.id)
    };
    assert!(change("battery staple", None).await.is_ok());
    bench.pass(3600);
    let needed = Err(AccountError::ReauthenticationNeeded);
    assert_eq!(change("staple battery", None).await, needed);
    bench.accounts.reauthenticate(mine, &client).await.unwrap();
    let mail = mails(&bench, 1).await.remove(0);
    let again = bench.accounts.reauthenticate(mine, &client).await;
    assert!(matches!(again, Err(AccountError::MailedJustNow { .. })));
    let nonce = text(&mail, "code");
    let other = if nonce == "123456" {
        "654321"
    } else {
        "123456"
    };
    let invalid = Err(AccountError::CodeInvalid);
    assert_eq!(change("staple battery", Some(other)).await, invalid);
    assert!(change("staple battery", Some(&nonce)).await.is_ok());
    // It is good once.
    assert_eq!(change("battery staple", Some(&nonce)).await, invalid);
}
