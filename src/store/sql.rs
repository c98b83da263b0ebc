//! Every statement that both engines run, word for word, and what PostgreSQL says beside them: how it locks. `$1` stands
//! before `$2` in each, because SQLite numbers them as they come.

/// The columns of a user, in the order of `rows::user`.
macro_rules! user_columns {
    () => {
        "u.id, u.number, u.username, u.username_key, u.email, u.phone, u.password, u.role, u.anonymous, \
         u.disabled, u.banned_until, u.app_metadata, u.user_metadata, u.email_confirmed_at, \
         u.phone_confirmed_at, u.confirmation_sent_at, u.recovery_sent_at, u.reauthentication_sent_at, \
         u.email_change, u.email_change_sent_at, u.last_sign_in_at, u.created_at, u.updated_at, u.deleted_at, \
         u.invited_at"
    };
}

/// The columns of a session, in the order of `rows::session`.
macro_rules! session_columns {
    () => {
        "s.id, s.number, s.user_id, s.api, s.name, s.user_agent, s.address, s.method, s.authenticated_at, \
         s.created_at, s.last_used_at, s.refreshed_at, s.refresh_counter, s.ended_at"
    };
}

/// The columns of a job, in the order of `rows::job`.
macro_rules! job_columns {
    () => {
        "number, kind, space, job_id, user_id, issuer, subject, session_id, outside_session, \
         status, progress, extra, created_at, updated_at"
    };
}

/// The columns of a code, in the order of `rows::code`.
macro_rules! code_columns {
    () => {
        "user_id, kind, hash, link_hash, sent_to, made_at"
    };
}

// ── Users ──

pub(super) const ADD_USER: &str = "INSERT INTO users \
    (id, username, username_key, email, phone, password, role, anonymous, disabled, banned_until, \
     app_metadata, user_metadata, email_confirmed_at, phone_confirmed_at, confirmation_sent_at, \
     recovery_sent_at, reauthentication_sent_at, email_change, email_change_sent_at, last_sign_in_at, \
     created_at, updated_at, deleted_at, invited_at, search) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
     $21, $22, $23, $24, $25) RETURNING number";
pub(super) const WRITE_USER: &str = "UPDATE users SET \
    username = $1, username_key = $2, email = $3, phone = $4, password = $5, role = $6, anonymous = $7, \
    disabled = $8, banned_until = $9, app_metadata = $10, user_metadata = $11, email_confirmed_at = $12, \
    phone_confirmed_at = $13, confirmation_sent_at = $14, recovery_sent_at = $15, \
    reauthentication_sent_at = $16, email_change = $17, email_change_sent_at = $18, last_sign_in_at = $19, \
    created_at = $20, updated_at = $21, deleted_at = $22, invited_at = $23, search = $24 WHERE id = $25";
pub(super) const USER: &str = concat!("SELECT ", user_columns!(), " FROM users u WHERE u.id = $1");
pub(super) const USER_BY_NAME: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE u.username_key = $1"
);
pub(super) const USER_BY_EMAIL: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE u.email = $1"
);
/// A few: nothing keeps several users from wanting one address.
pub(super) const USERS_BY_EMAIL_CHANGE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE u.email_change = $1 LIMIT 100"
);
pub(super) const USER_BY_PHONE: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE u.phone = $1"
);
pub(super) const USERS_NEWEST_FIRST: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE (CAST($1 AS TEXT) IS NULL OR u.search LIKE $1 ESCAPE '\\')",
    " ORDER BY u.created_at DESC, u.number DESC LIMIT $2 OFFSET $3"
);
pub(super) const USERS_OLDEST_FIRST: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE (CAST($1 AS TEXT) IS NULL OR u.search LIKE $1 ESCAPE '\\')",
    " ORDER BY u.created_at, u.number LIMIT $2 OFFSET $3"
);
pub(super) const COUNT_USERS: &str = "SELECT count(*) FROM users u \
    WHERE (CAST($1 AS TEXT) IS NULL OR u.search LIKE $1 ESCAPE '\\')";
pub(super) const DELETE_JOBS_OF_USER: &str = "DELETE FROM jobs WHERE user_id = $1";
pub(super) const DELETE_USER: &str = "DELETE FROM users WHERE id = $1";
pub(super) const SIGN_IN: &str = "UPDATE users SET last_sign_in_at = $1 WHERE id = $2";

// ── Sessions ──

/// Inserts nothing where the user is gone.
pub(super) const ADD_SESSION: &str = "INSERT INTO sessions \
    (id, api, name, user_agent, address, method, authenticated_at, created_at, last_used_at, \
     refresh_counter, user_id) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, u.id FROM users u WHERE u.id = $11 RETURNING number";
pub(super) const RESUMABLE: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions s WHERE s.user_id = $1 AND s.api = 'session' AND s.ended_at IS NULL",
    " ORDER BY s.last_used_at DESC LIMIT 1"
);
pub(super) const SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1"
);
pub(super) const SESSION_BY_NUMBER: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", (SELECT count(*) FROM jobs j WHERE j.session_id = s.id AND j.kind = 'job')",
    " FROM sessions s WHERE s.number = $1 AND s.user_id = $2"
);
pub(super) const SESSIONS_OF: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", (SELECT count(*) FROM jobs j WHERE j.session_id = s.id AND j.kind = 'job')",
    " FROM sessions s WHERE s.user_id = $1 ORDER BY s.last_used_at DESC, s.number DESC"
);
pub(super) const WRITE_SESSION: &str = "UPDATE sessions SET \
    api = $1, name = $2, user_agent = $3, address = $4, method = $5, authenticated_at = $6, \
    created_at = $7, last_used_at = $8, refreshed_at = $9, refresh_counter = $10, ended_at = $11 \
    WHERE id = $12";
pub(super) const DELETE_SESSION: &str = "DELETE FROM sessions WHERE id = $1";
pub(super) const END_SESSION: &str =
    "UPDATE sessions SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL RETURNING id";
pub(super) const END_SESSIONS_OF: &str =
    "UPDATE sessions SET ended_at = $1 WHERE user_id = $2 AND ended_at IS NULL RETURNING id";
pub(super) const END_OTHER_SESSIONS: &str = "UPDATE sessions SET ended_at = $1 \
    WHERE user_id = $2 AND id <> $3 AND ended_at IS NULL RETURNING id";
pub(super) const END_LOG_INS_OF: &str = "UPDATE sessions SET ended_at = $1 \
    WHERE user_id = $2 AND api <> 'session' AND ended_at IS NULL RETURNING id";
pub(super) const END_OTHER_LOG_INS: &str = "UPDATE sessions SET ended_at = $1 \
    WHERE user_id = $2 AND api <> 'session' AND id <> $3 AND ended_at IS NULL RETURNING id";
/// Runs with each log-in: it walks the index `sessions_live` over what may stay. Both engines want a limit before
/// an offset.
pub(super) const END_SURPLUS_SESSIONS: &str = "UPDATE sessions SET ended_at = $1 WHERE ended_at IS NULL \
    AND number IN (SELECT s.number FROM sessions s WHERE s.user_id = $2 AND s.ended_at IS NULL \
    ORDER BY s.last_used_at DESC, s.number DESC LIMIT 100000 OFFSET $3) RETURNING id";
pub(super) const TOUCH_SESSION: &str =
    "UPDATE sessions SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1";

// ── Opaque session tokens ──

/// Inserts nothing where the session is gone or has ended.
pub(super) const ADD_TOKEN: &str = "INSERT INTO session_tokens (hash, created_at, session_id, user_id) \
    SELECT $1, $2, s.id, s.user_id FROM sessions s WHERE s.id = $3 AND s.ended_at IS NULL \
    RETURNING number, session_id, user_id, created_at";
pub(super) const TOKEN_OWNER: &str = concat!(
    "SELECT t.number, t.session_id, t.user_id, t.created_at, ",
    session_columns!(),
    ", ",
    user_columns!(),
    " FROM session_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id",
    " WHERE t.hash = $1"
);
pub(super) const REVOKE_TOKEN: &str =
    "DELETE FROM session_tokens WHERE number = $1 RETURNING number";
pub(super) const REVOKE_TOKENS_OF_SESSION: &str =
    "DELETE FROM session_tokens WHERE session_id = $1 RETURNING number";
pub(super) const REVOKE_TOKENS_OF: &str =
    "DELETE FROM session_tokens WHERE user_id = $1 RETURNING number";
pub(super) const REVOKE_OTHER_TOKENS: &str =
    "DELETE FROM session_tokens WHERE user_id = $1 AND number <> $2 RETURNING number";
pub(super) const REVOKE_SURPLUS_TOKENS: &str = "DELETE FROM session_tokens WHERE number IN \
    (SELECT t.number FROM session_tokens t WHERE t.user_id = $1 ORDER BY t.number DESC LIMIT 100000 OFFSET $2) \
    RETURNING number";

// ── One-time codes ──

pub(super) const PUT_CODE: &str = concat!(
    "INSERT INTO codes (",
    code_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (user_id, kind) DO UPDATE SET hash = excluded.hash, ",
    "link_hash = excluded.link_hash, sent_to = excluded.sent_to, made_at = excluded.made_at"
);
pub(super) const TAKE_CODE: &str = concat!(
    "DELETE FROM codes WHERE user_id = $1 AND kind = $2 AND (hash = $3 OR link_hash = $3) RETURNING ",
    code_columns!()
);
pub(super) const TAKE_LINK: &str = concat!(
    "DELETE FROM codes WHERE link_hash = $1 AND kind = $2 RETURNING ",
    code_columns!()
);
pub(super) const VOID_CODES: &str = "DELETE FROM codes WHERE user_id = $1";

// ── Keys ──

pub(super) const KEYS: &str = "SELECT kid, algorithm, sealed, created_at, signs_from, verifies_until \
    FROM keys ORDER BY number DESC";
pub(super) const NEWEST_KEY: &str = "SELECT kid FROM keys ORDER BY number DESC LIMIT 1";
pub(super) const END_KEYS: &str =
    "UPDATE keys SET verifies_until = $1 WHERE verifies_until IS NULL";
pub(super) const ADD_KEY: &str = "INSERT INTO keys \
    (kid, algorithm, sealed, created_at, signs_from, verifies_until) VALUES ($1, $2, $3, $4, $5, $6)";
pub(super) const REMOVE_KEYS: &str = "DELETE FROM keys WHERE verifies_until < $1";

// ── Jobs ──

/// A session that is gone by now is left out: the owner is kept all the same.
pub(super) const ADD_JOB: &str = "INSERT INTO jobs \
    (kind, space, job_id, user_id, issuer, subject, outside_session, status, progress, extra, \
     created_at, updated_at, job, session_id) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
        (SELECT s.id FROM sessions s WHERE s.id = $14) WHERE TRUE \
    ON CONFLICT (kind, space, job_id) DO NOTHING RETURNING number, session_id";
pub(super) const JOB: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs WHERE kind = $1 AND space = $2 AND job_id = $3"
);
pub(super) const WRITE_JOB: &str = "UPDATE jobs SET status = $1, progress = $2, extra = $3, updated_at = $4, \
    outside_session = $5, session_id = (SELECT s.id FROM sessions s WHERE s.id = $6) WHERE number = $7 \
    RETURNING session_id";
pub(super) const JOBS_OF: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs WHERE session_id = $1 AND kind = 'job' ORDER BY created_at DESC, number DESC LIMIT $2"
);
pub(super) const GONE: &str =
    "SELECT count(*) FROM gone WHERE kind = $1 AND space = $2 AND job_id = $3";
pub(super) const PRUNE_OLD_JOBS: &str = "DELETE FROM jobs WHERE number IN \
    (SELECT number FROM jobs WHERE job IS NULL AND updated_at < $1 LIMIT $2)";
/// Who has more than so many of a kind.
pub(super) const CROWDED_USERS: &str = "SELECT user_id, kind FROM jobs WHERE job IS NULL \
    GROUP BY user_id, kind HAVING count(*) > $1 LIMIT $2";
pub(super) const PRUNE_CROWD: &str = "DELETE FROM jobs WHERE number IN \
    (SELECT number FROM jobs WHERE user_id = $1 AND kind = $2 AND job IS NULL \
     ORDER BY created_at DESC, number DESC LIMIT $3 OFFSET $4)";
pub(super) const FORGET_GONE: &str = "DELETE FROM gone WHERE at < $1";

// ── Ends ──

pub(super) const NOTE_END: &str =
    "INSERT INTO ends (kind, user_id, session_id, token, at) VALUES ($1, $2, $3, $4, $5)";
pub(super) const FORGET_ENDS: &str = "DELETE FROM ends WHERE at < $1";
pub(super) const LAST_END: &str = "SELECT coalesce(max(number), 0) FROM ends";
pub(super) const ENDS_AFTER: &str = "SELECT number, kind, user_id, session_id, token FROM ends \
    WHERE number > $1 ORDER BY number LIMIT 1000";

// ── Bans ──

pub(super) const ADD_BAN: &str = "INSERT INTO bans (kind, whose, since) VALUES ($1, $2, $3)";
/// What a later ban of the same says, too.
pub(super) const REPLACE_BAN: &str =
    "DELETE FROM bans WHERE kind = $1 AND whose = $2 AND since <= $3";
pub(super) const FORGET_BANS: &str = "DELETE FROM bans WHERE since < $1";
pub(super) const BANS_AFTER: &str = "SELECT number, kind, whose, since FROM bans \
    WHERE number > $1 ORDER BY number LIMIT 1000";

// ── Upkeep ──

/// What `sessions_stale` holds: ended ones, and log-ins that may be forgotten.
macro_rules! stale {
    () => {
        "(s.api <> 'session' OR s.ended_at IS NOT NULL) \
         AND coalesce(s.ended_at, s.last_used_at) < $1 \
         AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.session_id = s.id AND j.kind = 'job')"
    };
}

macro_rules! forgotten {
    () => {
        "u.anonymous AND u.created_at < $1 \
         AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.id)"
    };
}

pub(super) const STALE_SESSIONS: &str =
    concat!("SELECT s.id FROM sessions s WHERE ", stale!(), " LIMIT $2");
pub(super) const PRUNE_SESSION: &str = concat!(
    "DELETE FROM sessions AS s WHERE ",
    stale!(),
    " AND s.id = $2"
);
pub(super) const FORGOTTEN_USERS: &str =
    concat!("SELECT u.id FROM users u WHERE ", forgotten!(), " LIMIT $2");
pub(super) const PRUNE_USER: &str = concat!(
    "DELETE FROM users AS u WHERE ",
    forgotten!(),
    " AND u.id = $2"
);
pub(super) const OLD_CODES: &str = "SELECT user_id, kind FROM codes WHERE made_at < $1 LIMIT $2";
pub(super) const PRUNE_CODE: &str =
    "DELETE FROM codes WHERE made_at < $1 AND user_id = $2 AND kind = $3";

// ── PostgreSQL alone ──

pub(super) const LOCK_USER: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM users u WHERE u.id = $1 FOR UPDATE"
);
pub(super) const LOCK_SESSION: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    user_columns!(),
    " FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1 FOR UPDATE OF s"
);
pub(super) const LOCK_RESUMABLE: &str = concat!(
    "SELECT ",
    session_columns!(),
    " FROM sessions s WHERE s.user_id = $1 AND s.api = 'session' AND s.ended_at IS NULL",
    " ORDER BY s.last_used_at DESC LIMIT 1 FOR UPDATE"
);
pub(super) const LOCK_JOB: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM jobs WHERE kind = $1 AND space = $2 AND job_id = $3 FOR UPDATE"
);
pub(super) const PRUNE_SESSIONS: &str = concat!(
    "DELETE FROM sessions WHERE id IN (SELECT s.id FROM sessions s WHERE ",
    stale!(),
    " LIMIT $2 FOR UPDATE SKIP LOCKED)"
);
pub(super) const PRUNE_USERS: &str = concat!(
    "DELETE FROM users WHERE id IN (SELECT u.id FROM users u WHERE ",
    forgotten!(),
    " LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id"
);
pub(super) const PRUNE_CODES: &str = "DELETE FROM codes WHERE (user_id, kind) IN \
    (SELECT user_id, kind FROM codes WHERE made_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
