//! The contract, once for both engines: each test runs on SQLite and on PostgreSQL, with a database of its own.

mod bans;
mod codes;
mod ends;
mod file;
mod jobs;
mod kill;
mod keys;
mod plans;
mod postgres_alone;
mod postgres_faults;
mod server;
mod sessions;
mod tokens;
mod upkeep;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{NewSession, NewUser, SignIn, Store, StoreError, open};
use crate::config::{self, StorePlace};
use crate::records::{
    Api, Authentication, Client, Email, Object, Session, SessionId, TokenHash, User, UserId,
    Username,
};

/// A test's own database.
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    pub(super) config: config::Store,
    pub(super) folder: Folder,
}

/// A folder that is gone when the test is over.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-store-{}", fresh()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The configuration of a store in one file.
pub(super) fn sqlite_at(path: &Path) -> config::Store {
    config::Store {
        place: StorePlace::Sqlite(path.into()),
        connections: 10,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(20),
        ca: None,
    }
}

fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Place) -> F) {
    let folder = Folder::new();
    let config = sqlite_at(&folder.file("store.db"));
    let store = open(&config).unwrap();
    wait(test(Place {
        store,
        config,
        folder,
    }));
}

fn on_postgres<F: Future<Output = ()>>(test: impl FnOnce(Place) -> F) {
    let Some(url) = server::database() else {
        return;
    };
    let config = server::postgres_at(&url);
    let store = open(&config).unwrap();
    wait(test(Place {
        store,
        config,
        folder: Folder::new(),
    }));
}

/// Each test on each engine.
macro_rules! contract {
    ($($area:ident: $($name:ident),+;)+) => {
        mod sqlite {
            $(mod $area {
                $(#[test]
                fn $name() {
                    crate::store::tests::on_sqlite(crate::store::tests::$area::$name);
                })+
            })+
        }

        mod postgres {
            $(mod $area {
                $(#[test]
                fn $name() {
                    crate::store::tests::on_postgres(crate::store::tests::$area::$name);
                })+
            })+
        }
    };
}

contract! {
    users:
        a_user_is_kept_as_it_was_given,
        a_user_is_found_by_each_of_its_names,
        what_is_taken_is_named,
        one_of_two_wins_a_name,
        a_change_is_written_and_its_ids_are_not,
        concurrent_changes_of_a_user_all_count,
        a_change_to_a_taken_name_changes_nothing,
        a_deleted_user_takes_everything_with_it,
        users_are_listed_in_pages,
        users_are_searched_in_any_case_and_literally,
        users_are_added_together_or_not_at_all,
        numbers_are_never_given_twice,
        odd_texts_are_kept;
    sessions:
        a_session_is_kept_as_it_was_given,
        a_session_of_nobody_is_not_made,
        a_log_in_is_noted_with_the_user,
        changes_of_a_session_are_serial,
        a_changed_session_keeps_its_owner,
        the_last_used_conversation_is_resumed,
        sessions_of_a_user_are_listed,
        sessions_end_once,
        log_ins_end_together_and_conversations_stay,
        sessions_beyond_so_many_end,
        the_time_of_use_never_goes_back,
        a_panic_in_a_change_harms_nobody_else;
    tokens:
        a_token_stands_for_its_session_and_user,
        a_session_that_ended_gets_no_token,
        tokens_are_revoked_one_by_one_and_together,
        tokens_beyond_so_many_are_revoked,
        a_deleted_session_takes_its_tokens_with_it;
    codes:
        a_code_is_good_once,
        a_code_is_good_for_one_of_a_race,
        a_new_code_replaces_the_last_of_its_kind,
        a_link_says_whose_it_is,
        codes_can_be_voided;
    keys:
        one_of_a_race_adds_a_key,
        an_added_key_ends_those_before_it,
        keys_that_ended_are_removed;
    ends:
        ends_come_back_in_their_order,
        old_notes_of_ends_are_forgotten;
    bans:
        bans_come_back_in_their_order,
        the_last_ban_of_the_same_stays,
        old_bans_are_forgotten;
    jobs:
        the_first_owner_of_a_job_stays,
        one_of_a_race_owns_a_job,
        what_nobody_owns_is_not_made_by_news_of_it,
        users_of_other_issuers_own_jobs,
        what_is_new_of_a_job_is_kept,
        files_are_their_job_s_owner_s,
        jobs_of_a_session_go_with_it,
        a_job_of_a_session_that_is_gone_is_kept,
        old_jobs_and_too_many_of_one_user_are_removed;
    upkeep:
        what_is_of_use_is_not_pruned,
        a_store_can_be_pinged,
        calls_are_answered_on_any_thread,
        an_opened_store_has_what_was_written_before,
        many_may_open_it_at_once;
}

// ── What tests need ──

/// Waits for `answer` on a runtime of its own, as a worker has.
pub(super) fn wait<F: Future>(answer: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(answer)
}

/// Runs `count` calls at once, each on a thread and a runtime of its own.
pub(super) fn at_once<T: Send, F: Future<Output = T>>(
    count: usize,
    call: impl Fn(usize) -> F + Sync,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|at| {
                let call = &call;
                scope.spawn(move || wait(call(at)))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

pub(super) fn fresh() -> Uuid {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    Uuid::from_bytes(bytes)
}

pub(super) fn hash() -> TokenHash {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    TokenHash(bytes)
}

pub(super) fn email(text: &str) -> Email {
    Email(text.into())
}

pub(super) fn username(text: &str) -> Username {
    Username {
        shown: text.into(),
        key: text.to_lowercase().into(),
    }
}

/// A user with nothing but an id.
pub(super) fn somebody() -> NewUser {
    NewUser {
        id: UserId(fresh()),
        username: None,
        email: None,
        phone: None,
        password: None,
        role: "authenticated".into(),
        anonymous: false,
        banned_until: None,
        app_metadata: Object::new(),
        user_metadata: Object::new(),
        email_confirmed_at: None,
        phone_confirmed_at: None,
        confirmation_sent_at: None,
        created_at: 1000,
    }
}

pub(super) fn named(name: &str) -> NewUser {
    NewUser {
        username: Some(username(name)),
        email: Some(email(&format!("{}@example.com", name.to_lowercase()))),
        ..somebody()
    }
}

/// A session of `user` at 1000.
pub(super) fn session_of(user: UserId, api: Api) -> NewSession {
    NewSession {
        id: SessionId(fresh()),
        user,
        api,
        name: None,
        client: Client::default(),
        authentication: Authentication {
            method: "password".into(),
            at: 1000,
        },
        refresh_counter: 0,
        created_at: 1000,
        token: None,
        signs_in: SignIn::No,
        most: 500,
    }
}

impl Place {
    pub(super) async fn user(&self) -> User {
        self.store.add_user(somebody()).await.unwrap()
    }

    pub(super) async fn session(&self, user: &User, api: Api) -> Session {
        let opened = self.store.add_session(session_of(user.id, api)).await;
        opened.unwrap().unwrap().session
    }

    /// A user with a session.
    pub(super) async fn caller(&self) -> (User, Session) {
        let user = self.user().await;
        let session = self.session(&user, Api::Session).await;
        (user, session)
    }
}

pub(super) fn unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}
