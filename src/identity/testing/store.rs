//! A store of a few sessions, tokens and keys, which can go away. What tests of this module do not ask is not there.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use crate::clock::UnixSeconds;
use crate::records::{
    Api, Authentication, Client, Code, CodeKind, Email, Job, JobKind, KeyRecord, Object, Session,
    SessionId, SessionToken, TokenHash, UnixMillis, User, UserId,
};
use crate::state::Ended;
use crate::state::bans::Banned;
use crate::store::{
    Answer, JobNews, JobsPruned, Kept, NewSession, NewUser, Opened, PruneBefore, Pruned,
    SessionChange, SessionSummary, Sessions, Store, StoreError, TokenOwner, Tokens, UserChange,
    UserQuery,
};

#[derive(Default)]
pub(crate) struct TestStore {
    keys: Mutex<Vec<KeyRecord>>,
    sessions: Mutex<HashMap<SessionId, (Session, User)>>,
    tokens: Mutex<HashMap<TokenHash, TokenOwner>>,
    touched: Mutex<Vec<(SessionId, UnixMillis)>>,
    away: AtomicBool,
    asked: AtomicU64,
}

impl TestStore {
    pub(crate) fn put_keys(&self, keys: impl IntoIterator<Item = KeyRecord>) {
        *self.keys.lock().unwrap() = keys.into_iter().collect();
    }

    pub(crate) fn put_session(&self, session: &Session, user: &User) {
        let kept = (session.clone(), user.clone());
        self.sessions.lock().unwrap().insert(session.id, kept);
    }

    pub(crate) fn put_token(
        &self,
        number: i64,
        hash: TokenHash,
        (session, user): (&Session, &User),
    ) {
        let token = SessionToken {
            number,
            session: session.id,
            user: user.id,
            created_at: 0,
        };
        let owner = TokenOwner {
            token,
            session: session.clone(),
            user: user.clone(),
        };
        self.tokens.lock().unwrap().insert(hash, owner);
    }

    pub(crate) fn remove_token(&self, hash: TokenHash) {
        self.tokens.lock().unwrap().remove(&hash);
    }

    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }

    /// How often anything was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn touched(&self) -> Vec<(SessionId, UnixMillis)> {
        self.touched.lock().unwrap().clone()
    }

    /// Answers after a pause, so that others come in between.
    fn answer<'s, T: Send + 's>(&'s self, found: impl FnOnce() -> T + Send + 's) -> Answer<'s, T> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            match self.away.load(Ordering::Relaxed) {
                true => Err(StoreError::Unavailable("away".into())),
                false => Ok(found()),
            }
        })
    }

    fn nothing<'s, T: Send + 's>(&'s self) -> Answer<'s, T> {
        Box::pin(async { Err(StoreError::Broken("not in this store".into())) })
    }
}

/// A user of this number.
pub(crate) fn user(number: u128) -> User {
    User {
        id: UserId(Uuid::from_u128(number)),
        number: 1,
        username: None,
        email: Some(Email("ada@mail.example".into())),
        phone: None,
        password: None,
        role: "authenticated".into(),
        anonymous: false,
        disabled: false,
        banned_until: None,
        app_metadata: Object::new(),
        user_metadata: Object::new(),
        email_confirmed_at: None,
        phone_confirmed_at: None,
        confirmation_sent_at: None,
        invited_at: None,
        recovery_sent_at: None,
        reauthentication_sent_at: None,
        email_change: None,
        last_sign_in_at: None,
        created_at: 0,
        updated_at: 0,
        deleted_at: None,
    }
}

/// A session of this number.
pub(crate) fn session(number: u128, user: &User) -> Session {
    Session {
        id: SessionId(Uuid::from_u128(number)),
        number: 1,
        user: user.id,
        api: Api::Supabase,
        name: None,
        client: Client::default(),
        authentication: Authentication {
            method: "password".into(),
            at: 1_799_999_000_500,
        },
        created_at: 0,
        last_used_at: 0,
        refreshed_at: None,
        refresh_counter: 0,
        ended_at: None,
    }
}

impl Store for TestStore {
    fn engine(&self) -> &'static str {
        "test"
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.answer(|| ())
    }

    fn session(&self, id: SessionId) -> Answer<'_, Option<(Session, User)>> {
        self.answer(move || self.sessions.lock().unwrap().get(&id).cloned())
    }

    fn token_owner(&self, hash: TokenHash) -> Answer<'_, Option<TokenOwner>> {
        self.answer(move || self.tokens.lock().unwrap().get(&hash).cloned())
    }

    fn touch_sessions(&self, used: Vec<(SessionId, UnixMillis)>) -> Answer<'_, ()> {
        self.answer(move || self.touched.lock().unwrap().extend(used))
    }

    fn keys(&self) -> Answer<'_, Vec<KeyRecord>> {
        self.answer(|| self.keys.lock().unwrap().clone())
    }

    fn add_user(&self, _: NewUser) -> Answer<'_, User> {
        self.nothing()
    }

    fn add_users(&self, _: Vec<User>) -> Answer<'_, u64> {
        self.nothing()
    }

    fn note_end(&self, _: Ended, _: UnixMillis) -> Answer<'_, ()> {
        self.nothing()
    }

    fn last_end(&self) -> Answer<'_, i64> {
        self.nothing()
    }

    fn ends_after(&self, _: i64) -> Answer<'_, Vec<(i64, Ended)>> {
        self.nothing()
    }

    fn add_ban(&self, _: Banned, _: UnixSeconds) -> Answer<'_, ()> {
        self.nothing()
    }

    fn bans_after(&self, _: i64) -> Answer<'_, Vec<(i64, Banned, UnixSeconds)>> {
        self.nothing()
    }

    fn user(&self, _: UserId) -> Answer<'_, Option<User>> {
        self.nothing()
    }

    fn user_by_name<'s>(&'s self, _: &'s str) -> Answer<'s, Option<User>> {
        self.nothing()
    }

    fn user_by_email<'s>(&'s self, _: &'s Email) -> Answer<'s, Option<User>> {
        self.nothing()
    }

    fn users_by_email_change<'s>(&'s self, _: &'s Email) -> Answer<'s, Vec<User>> {
        self.nothing()
    }

    fn user_by_phone<'s>(&'s self, _: &'s str) -> Answer<'s, Option<User>> {
        self.nothing()
    }

    fn change_user(&self, _: UserId, _: UserChange) -> Answer<'_, Option<User>> {
        self.nothing()
    }

    fn users(&self, _: UserQuery) -> Answer<'_, (Vec<User>, u64)> {
        self.nothing()
    }

    fn add_session(&self, _: NewSession) -> Answer<'_, Option<Opened>> {
        self.nothing()
    }

    fn resume_session(
        &self,
        _: UserId,
        _: TokenHash,
        _: UnixMillis,
        _: u32,
    ) -> Answer<'_, Option<Opened>> {
        self.nothing()
    }

    fn session_by_number(&self, _: UserId, _: i64) -> Answer<'_, Option<SessionSummary>> {
        self.nothing()
    }

    fn sessions_of(&self, _: UserId) -> Answer<'_, Vec<SessionSummary>> {
        self.nothing()
    }

    fn change_session(&self, _: SessionId, _: SessionChange) -> Answer<'_, Option<Session>> {
        self.nothing()
    }

    fn end_sessions(&self, _: Sessions, _: UnixMillis) -> Answer<'_, Vec<SessionId>> {
        self.nothing()
    }

    fn add_token(
        &self,
        _: SessionId,
        _: TokenHash,
        _: UnixMillis,
    ) -> Answer<'_, Option<SessionToken>> {
        self.nothing()
    }

    fn revoke_tokens(&self, _: Tokens) -> Answer<'_, Vec<i64>> {
        self.nothing()
    }

    fn put_code(&self, _: Code) -> Answer<'_, ()> {
        self.nothing()
    }

    fn take_code(&self, _: Option<UserId>, _: CodeKind, _: TokenHash) -> Answer<'_, Option<Code>> {
        self.nothing()
    }

    fn void_codes(&self, _: UserId) -> Answer<'_, ()> {
        self.nothing()
    }

    fn add_key<'s>(&'s self, _: KeyRecord, _: Option<&'s str>, _: UnixMillis) -> Answer<'s, bool> {
        self.nothing()
    }

    fn remove_keys(&self, _: UnixMillis) -> Answer<'_, u64> {
        self.nothing()
    }

    fn put_job(&self, _: JobNews) -> Answer<'_, Kept> {
        self.nothing()
    }

    fn job<'s>(&'s self, _: JobKind, _: &'s str, _: &'s str) -> Answer<'s, Option<Job>> {
        self.nothing()
    }

    fn job_is_gone<'s>(&'s self, _: JobKind, _: &'s str, _: &'s str) -> Answer<'s, bool> {
        self.nothing()
    }

    fn prune_jobs(&self, _: JobsPruned) -> Answer<'_, u64> {
        self.nothing()
    }

    fn jobs_of(&self, _: SessionId, _: u64) -> Answer<'_, Vec<Job>> {
        self.nothing()
    }

    fn prune(&self, _: PruneBefore) -> Answer<'_, Pruned> {
        self.nothing()
    }

    fn back_up<'s>(&'s self, _: &'s std::path::Path) -> Answer<'s, ()> {
        self.nothing()
    }
}
