//! Log-outs and conversations.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::accounts::sessions::Scope;
use crate::accounts::testing::{Bench, PASSWORD, who};
use crate::accounts::{AccountError, Who};
use crate::records::{Api, Client};
use crate::state::Standing;

/// What is alive of one session of each kind, and one token.
async fn alive(bench: &Bench, sessions: &[Who]) -> Vec<bool> {
    let mut alive = Vec::new();
    for session in sessions {
        alive.push(bench.is_alive(*session).await);
    }
    alive
}

#[tokio::test]
async fn what_ends_is_told_also_where_nobody_waits_for_it() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    let mine = who(&bench.log_in(Api::Token).await);
    let known = Standing::new(mine.user, mine.session, None, bench.revocations.version());
    let mut left = Box::pin(
        bench
            .accounts
            .log_out(Api::Token, mine, (Scope::Local, &client)),
    );
    assert!(poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_pending())).await);
    drop(left);
    let began = Instant::now();
    while bench.revocations.holds(&known) {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not told");
        tokio::task::yield_now().await;
    }
    assert!(!bench.is_alive(mine).await);
}

#[tokio::test]
async fn each_scope_ends_what_it_says_in_every_api() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    for (scope, kept) in [
        (Scope::Local, [false, true, true]),
        (Scope::Others, [true, false, false]),
        (Scope::Global, [false, false, false]),
    ] {
        let mine = who(&bench.log_in(Api::Token).await);
        let phone = who(&bench.log_in(Api::App).await);
        let page = who(&bench.log_in(Api::Supabase).await);
        let talk = bench.conversation().await;
        let done = bench
            .accounts
            .log_out(Api::Token, mine, (scope, &client))
            .await;
        done.unwrap();
        assert_eq!(alive(&bench, &[mine, phone, page]).await, kept, "{scope:?}");
        let token = bench.token_is_alive(&talk.token).await;
        assert_eq!(token, scope == Scope::Local, "{scope:?}");
        let session = bench.store.session(talk.session.id).await.unwrap().unwrap();
        assert!(session.0.ended_at.is_none(), "a conversation stays");
    }
}

#[tokio::test]
async fn a_conversation_is_resumed_with_a_new_token_and_log_out_ends_the_one_in_hand() {
    let bench = Bench::new().await;
    bench.ada().await;
    let one = bench.conversation().await;
    let two = bench.conversation().await;
    assert_eq!(one.session.id, two.session.id);
    assert_ne!(one.token, two.token);
    let client = Client::default();
    let in_hand = Who {
        user: one.user.id,
        session: one.session.id,
        token: Some(bench.number(&one.token).await),
    };
    let scope = (Scope::Local, &client);
    bench
        .accounts
        .log_out(Api::Session, in_hand, scope)
        .await
        .unwrap();
    assert!(!bench.token_is_alive(&one.token).await);
    assert!(bench.token_is_alive(&two.token).await);
    let others = Who {
        token: Some(bench.number(&two.token).await),
        ..in_hand
    };
    let page = who(&bench.log_in(Api::Token).await);
    let scope = (Scope::Others, &client);
    bench
        .accounts
        .log_out(Api::Session, others, scope)
        .await
        .unwrap();
    assert!(bench.token_is_alive(&two.token).await);
    assert!(!bench.is_alive(page).await);
}

#[tokio::test]
async fn a_log_in_is_not_resumed_as_a_conversation() {
    let bench = Bench::new().await;
    bench.ada().await;
    let page = bench.log_in(Api::Token).await;
    let talk = bench.conversation().await;
    assert_ne!(page.session.id, talk.session.id);
}

#[tokio::test]
async fn conversations_are_made_named_listed_and_deleted() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    let first = bench.conversation().await;
    let mine = Who {
        user: first.user.id,
        session: first.session.id,
        token: None,
    };
    let new = |name| bench.accounts.new_conversation(mine, name, &client);
    let second = new(Some(" Holidays ")).await.unwrap();
    assert_eq!(second.session.name.as_deref(), Some("Holidays"));
    assert!(bench.token_is_alive(&second.token).await);
    for bad in ["", "  ", "a\nb", &"x".repeat(201)] {
        assert_eq!(new(Some(bad)).await.err(), Some(AccountError::InvalidName));
    }
    let number = second.session.number;
    let renamed = bench
        .accounts
        .rename_session(mine.user, number, "Work")
        .await;
    assert_eq!(renamed.unwrap().name.as_deref(), Some("Work"));
    let listed = bench.accounts.sessions_of(mine.user).await.unwrap();
    assert_eq!(listed.len(), 2);
    bench
        .accounts
        .delete_session(mine, number, &client)
        .await
        .unwrap();
    assert!(!bench.token_is_alive(&second.token).await);
    let again = bench.accounts.delete_session(mine, number, &client).await;
    assert_eq!(again, Err(AccountError::NotFound));
}

#[tokio::test]
async fn sessions_of_others_are_not_found() {
    let bench = Bench::new().await;
    bench.ada().await;
    bench.register("eve", "eve@mail.example").await.unwrap();
    let client = Client::default();
    let ada = bench.conversation().await;
    let eve = who(&bench.try_log_in(Api::Token, "eve", PASSWORD).await.unwrap());
    let number = ada.session.number;
    let accounts = &bench.accounts;
    let none = Some(AccountError::NotFound);
    assert_eq!(
        accounts.session_by_number(eve.user, number).await.err(),
        none
    );
    assert_eq!(
        accounts.rename_session(eve.user, number, "x").await.err(),
        none
    );
    assert_eq!(
        accounts.delete_session(eve, number, &client).await.err(),
        none
    );
    let posed = Who {
        session: ada.session.id,
        ..eve
    };
    assert_eq!(
        accounts.session(posed).await.err(),
        Some(AccountError::SessionGone)
    );
    assert!(bench.token_is_alive(&ada.token).await);
}

#[tokio::test]
async fn sessions_and_tokens_beyond_so_many_end_the_longest_unused_first() {
    let bench = Bench::with(|config| config.max_sessions = 2).await;
    bench.ada().await;
    let mut log_ins = Vec::new();
    for api in [Api::Token, Api::App, Api::Supabase] {
        bench.pass(1);
        log_ins.push(who(&bench.log_in(api).await));
    }
    assert_eq!(alive(&bench, &log_ins).await, [false, true, true]);
    let mut talks = Vec::new();
    for _ in 0..3 {
        bench.pass(1);
        talks.push(bench.conversation().await);
    }
    assert_eq!(alive(&bench, &log_ins).await, [false, false, true]);
    for (talk, lives) in talks.iter().zip([false, true, true]) {
        assert_eq!(bench.token_is_alive(&talk.token).await, lives);
    }
    // What is remembered of them is told too.
    let ended = log_ins[1];
    let known = Standing::new(ended.user, ended.session, None, 0);
    assert!(bench.revocations.has_ended(&known));
}
