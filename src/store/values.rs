//! From the records to what statements bind: written once for both engines. An engine says how it binds one `Value`.

use serde_json::Value as Json;
use uuid::Uuid;

use super::{NewSession, NewUser, Sessions, Tokens, sql};
use crate::clock::UnixSeconds;
use crate::records::{
    Client, Code, CodeKind, Job, JobKind, KeyRecord, Object, Session, SessionId, TokenHash,
    UnixMillis, User, UserId,
};
use crate::state::Ended;
use crate::state::bans::Banned;

/// What is bound to a parameter.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Flag(bool),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Id(Uuid),
}

/// PostgreSQL keeps no NUL in a text; so that both engines keep the same, it becomes U+FFFD in both, in what is
/// written and in what is asked for.
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        match text.contains('\0') {
            true => Self::Text(text.replace('\0', "\u{FFFD}").into()),
            false => Self::Text(text.into()),
        }
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<u64> for Value {
    fn from(integer: u64) -> Self {
        Self::Integer(i64::try_from(integer).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<UserId> for Value {
    fn from(id: UserId) -> Self {
        Self::Id(id.0)
    }
}

impl From<SessionId> for Value {
    fn from(id: SessionId) -> Self {
        Self::Id(id.0)
    }
}

impl From<TokenHash> for Value {
    fn from(hash: TokenHash) -> Self {
        Self::Bytes(hash.0.into())
    }
}

impl From<&Object> for Value {
    fn from(object: &Object) -> Self {
        // A map of strings and JSON values is always JSON.
        Self::Text(serde_json::to_string(object).unwrap_or_default().into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// What `ADD_USER` binds: all but the number.
pub(super) fn add_user(user: &User) -> Vec<Value> {
    let mut values = vec![user.id.into()];
    values.extend(user_cells(user));
    values
}

/// What `WRITE_USER` binds.
pub(super) fn write_user(user: &User, id: UserId) -> Vec<Value> {
    let mut values = user_cells(user);
    values.push(id.into());
    values
}

fn user_cells(user: &User) -> Vec<Value> {
    let username = user.username.as_ref();
    let email_change = user.email_change.as_ref();
    vec![
        username.map(|name| &*name.shown).into(),
        username.map(|name| &*name.key).into(),
        user.email.as_ref().map(|email| &*email.0).into(),
        user.phone.as_deref().into(),
        user.password
            .as_ref()
            .map(|hash| hash.expose().as_str())
            .into(),
        (&*user.role).into(),
        user.anonymous.into(),
        user.disabled.into(),
        user.banned_until.into(),
        (&user.app_metadata).into(),
        (&user.user_metadata).into(),
        user.email_confirmed_at.into(),
        user.phone_confirmed_at.into(),
        user.confirmation_sent_at.into(),
        user.recovery_sent_at.into(),
        user.reauthentication_sent_at.into(),
        email_change.map(|(email, _)| &*email.0).into(),
        email_change.map(|(_, sent_at)| *sent_at).into(),
        user.last_sign_in_at.into(),
        user.created_at.into(),
        user.updated_at.into(),
        user.deleted_at.into(),
        user.invited_at.into(),
        (&*searchable(user)).into(),
    ]
}

/// What the list of users is searched in.
fn searchable(user: &User) -> String {
    let email = user.email.as_ref().map(|email| &*email.0);
    let username = user.username.as_ref().map(|name| &*name.shown);
    let full_name = user.user_metadata.get("full_name").and_then(Json::as_str);
    let parts = [email, username, full_name];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    let text = parts.join("\n").to_lowercase();
    text.chars().take(SEARCHABLE).collect()
}

/// Letters of a user that are searched, at most.
const SEARCHABLE: usize = 2000;

/// `containing` as a pattern of LIKE over what `searchable` made.
pub(super) fn pattern(containing: Option<&str>) -> Value {
    let Some(containing) = containing else {
        return Value::Null;
    };
    let mut pattern = String::from("%");
    // One more than there can be matches nobody, as the whole would; SQLite refuses patterns that are very long.
    for letter in containing.to_lowercase().chars().take(SEARCHABLE + 1) {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern.as_str().into()
}

/// A new user as it will stand, but for its number.
pub(super) fn new_user(new: NewUser) -> User {
    User {
        id: new.id,
        number: 0,
        username: new.username,
        email: new.email,
        phone: new.phone,
        password: new.password,
        role: new.role,
        anonymous: new.anonymous,
        disabled: false,
        banned_until: new.banned_until,
        app_metadata: new.app_metadata,
        user_metadata: new.user_metadata,
        email_confirmed_at: new.email_confirmed_at,
        phone_confirmed_at: new.phone_confirmed_at,
        invited_at: None,
        confirmation_sent_at: new.confirmation_sent_at,
        recovery_sent_at: None,
        reauthentication_sent_at: None,
        email_change: None,
        last_sign_in_at: None,
        created_at: new.created_at,
        updated_at: new.created_at,
        deleted_at: None,
    }
}

/// A new session as it will stand, but for its number.
pub(super) fn new_session(new: &NewSession) -> Session {
    Session {
        id: new.id,
        number: 0,
        user: new.user,
        api: new.api,
        name: new.name.clone(),
        client: new.client.clone(),
        authentication: new.authentication.clone(),
        created_at: new.created_at,
        last_used_at: new.created_at,
        refreshed_at: None,
        refresh_counter: new.refresh_counter,
        ended_at: None,
    }
}

/// What `ADD_SESSION` binds.
pub(super) fn add_session(session: &Session) -> Vec<Value> {
    vec![
        session.id.into(),
        session.api.word().into(),
        session.name.as_deref().into(),
        session.client.user_agent.as_deref().into(),
        address(&session.client),
        (&*session.authentication.method).into(),
        session.authentication.at.into(),
        session.created_at.into(),
        session.last_used_at.into(),
        session.refresh_counter.into(),
        session.user.into(),
    ]
}

/// What `WRITE_SESSION` binds.
pub(super) fn write_session(session: &Session, id: SessionId) -> Vec<Value> {
    vec![
        session.api.word().into(),
        session.name.as_deref().into(),
        session.client.user_agent.as_deref().into(),
        address(&session.client),
        (&*session.authentication.method).into(),
        session.authentication.at.into(),
        session.created_at.into(),
        session.last_used_at.into(),
        session.refreshed_at.into(),
        session.refresh_counter.into(),
        session.ended_at.into(),
        id.into(),
    ]
}

fn address(client: &Client) -> Value {
    let address = client.address.map(|address| address.to_string());
    address.as_deref().into()
}

/// What `PUT_CODE` binds.
pub(super) fn put_code(code: &Code) -> Vec<Value> {
    vec![
        code.user.into(),
        code.kind.word().into(),
        code.hash.into(),
        code.link_hash.into(),
        (&*code.sent_to.0).into(),
        code.made_at.into(),
    ]
}

/// What `ADD_KEY` binds.
pub(super) fn add_key(key: &KeyRecord) -> Vec<Value> {
    vec![
        (&*key.kid).into(),
        (&*key.algorithm).into(),
        Value::Bytes(key.sealed.clone()),
        key.created_at.into(),
        key.signs_from.into(),
        key.verifies_until.into(),
    ]
}

/// What `ADD_JOB` binds; `of`: the number of the job that a file is of.
pub(super) fn add_job(job: &Job, of: Option<i64>) -> Vec<Value> {
    let owner = &job.owner;
    let outside = owner.outside.as_ref();
    vec![
        job.kind.word().into(),
        (&*job.space).into(),
        (&*job.job_id).into(),
        owner.user.into(),
        outside.map(|user| &*user.issuer).into(),
        outside.map(|user| &*user.subject).into(),
        owner.outside_session.as_deref().into(),
        job.status.as_deref().into(),
        progress(job),
        (&job.extra).into(),
        job.created_at.into(),
        job.updated_at.into(),
        of.into(),
        owner.session.into(),
    ]
}

/// What `WRITE_JOB` binds.
pub(super) fn write_job(number: i64, job: &Job) -> Vec<Value> {
    vec![
        job.status.as_deref().into(),
        progress(job),
        (&job.extra).into(),
        job.updated_at.into(),
        job.owner.outside_session.as_deref().into(),
        job.owner.session.into(),
        number.into(),
    ]
}

/// Where a job is found.
pub(super) fn place(kind: JobKind, space: &str, job_id: &str) -> Vec<Value> {
    vec![kind.word().into(), space.into(), job_id.into()]
}

/// A file of a job, which is its owner's.
pub(super) fn file(job: &Job, name: &str) -> Job {
    Job {
        kind: JobKind::File,
        job_id: name.into(),
        status: None,
        progress: None,
        extra: Object::new(),
        created_at: job.updated_at,
        ..job.clone()
    }
}

fn progress(job: &Job) -> Value {
    let progress = job.progress.as_ref().map(Json::to_string);
    match progress {
        // JSON escapes NUL itself.
        Some(text) => Value::Text(text.into()),
        None => Value::Null,
    }
}

/// A kept job with what is new in `put`; `None`: nothing is. Both are of one owner.
pub(super) fn merged(kept: &Job, put: Job) -> Option<Job> {
    let mut job = kept.clone();
    let owner = &mut job.owner;
    owner.session = owner.session.or(put.owner.session);
    if owner.outside_session.is_none() {
        owner.outside_session = put.owner.outside_session;
    }
    job.status = put.status.or(job.status);
    job.progress = put.progress.or(job.progress);
    merge(&mut job.extra, put.extra);
    job.updated_at = job.updated_at.max(put.updated_at);
    (job != *kept).then_some(job)
}

/// Members of objects within objects are each told apart: `aiDecisions.itemName` may come before
/// `aiDecisions.modName`.
fn merge(kept: &mut Object, put: Object) {
    for (name, value) in put {
        match (kept.get_mut(&name), value) {
            (Some(Json::Object(kept)), Json::Object(put)) => merge(kept, put),
            (_, value) => drop(kept.insert(name, value)),
        }
    }
}

/// Each session once, with its latest time, in the order of ids: two gateways that write the same ones do not
/// wait for each other crosswise.
pub(super) fn latest(mut used: Vec<(SessionId, UnixMillis)>) -> Vec<(SessionId, UnixMillis)> {
    used.sort_unstable_by(|a, b| b.cmp(a));
    used.dedup_by_key(|(session, _)| *session);
    used
}

// ── Statements that are chosen ──

/// The statement that ends sessions, and what it binds.
pub(super) fn end_sessions(which: Sessions, now: UnixMillis) -> (&'static str, Vec<Value>) {
    match which {
        Sessions::One(id) => (sql::END_SESSION, vec![now.into(), id.into()]),
        Sessions::All(user) => (sql::END_SESSIONS_OF, vec![now.into(), user.into()]),
        Sessions::Others(user, id) => (
            sql::END_OTHER_SESSIONS,
            vec![now.into(), user.into(), id.into()],
        ),
        Sessions::LogIns(user) => (sql::END_LOG_INS_OF, vec![now.into(), user.into()]),
        Sessions::OtherLogIns(user, id) => (
            sql::END_OTHER_LOG_INS,
            vec![now.into(), user.into(), id.into()],
        ),
    }
}

/// The statement that revokes tokens, and what it binds.
pub(super) fn revoke_tokens(which: Tokens) -> (&'static str, Vec<Value>) {
    match which {
        Tokens::One(number) => (sql::REVOKE_TOKEN, vec![number.into()]),
        Tokens::OfSession(session) => (sql::REVOKE_TOKENS_OF_SESSION, vec![session.into()]),
        Tokens::All(user) => (sql::REVOKE_TOKENS_OF, vec![user.into()]),
        Tokens::Others(user, number) => {
            (sql::REVOKE_OTHER_TOKENS, vec![user.into(), number.into()])
        }
    }
}

/// What `END_SURPLUS_SESSIONS` and `REVOKE_SURPLUS_TOKENS` bind.
pub(super) fn surplus(user: UserId, most: u32, now: UnixMillis) -> ([Value; 3], [Value; 2]) {
    let most = i64::from(most);
    (
        [now.into(), user.into(), most.into()],
        [user.into(), most.into()],
    )
}

/// What `NOTE_END` binds.
pub(super) fn note_end(ended: Ended, at: UnixMillis) -> Vec<Value> {
    let (kind, user, session, token) = match ended {
        Ended::Session(session) => ("session", None, Some(session), None),
        Ended::User(user) => ("user", Some(user), None, None),
        Ended::UserExceptSession(user, session) => {
            ("user_except_session", Some(user), Some(session), None)
        }
        Ended::UserExceptToken(user, token) => ("user_except_token", Some(user), None, Some(token)),
        Ended::Token(token) => ("token", None, None, Some(token)),
    };
    vec![
        kind.into(),
        user.into(),
        session.into(),
        token.into(),
        at.into(),
    ]
}

/// What `ADD_BAN` and `REPLACE_BAN` bind.
pub(super) fn ban(banned: &Banned, since: UnixSeconds) -> [Value; 3] {
    let (kind, whose) = match banned {
        Banned::User(user) => ("user", user),
        Banned::Session(session) => ("session", session),
    };
    [kind.into(), (&**whose).into(), since.into()]
}

/// The statement that takes a code, and what it binds.
pub(super) fn take_code(
    user: Option<UserId>,
    kind: CodeKind,
    hash: TokenHash,
) -> (&'static str, Vec<Value>) {
    match user {
        Some(user) => (
            sql::TAKE_CODE,
            vec![user.into(), kind.word().into(), hash.into()],
        ),
        None => (sql::TAKE_LINK, vec![hash.into(), kind.word().into()]),
    }
}
