-- Users, their sessions, tokens and codes, the signing keys, and the jobs of upstreams.
-- Times are milliseconds since the Unix epoch, ids are UUIDs of 16 bytes, JSON is text.

CREATE TABLE users (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    username TEXT,
    username_key TEXT UNIQUE,
    email TEXT UNIQUE,
    phone TEXT UNIQUE,
    password TEXT,
    role TEXT NOT NULL,
    anonymous INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    banned_until INTEGER,
    app_metadata TEXT NOT NULL,
    user_metadata TEXT NOT NULL,
    email_confirmed_at INTEGER,
    phone_confirmed_at INTEGER,
    confirmation_sent_at INTEGER,
    recovery_sent_at INTEGER,
    reauthentication_sent_at INTEGER,
    email_change TEXT,
    email_change_sent_at INTEGER,
    last_sign_in_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    -- E-mail, username and full name in lower case, for the list of users.
    search TEXT NOT NULL
) STRICT;

CREATE INDEX users_created ON users (created_at, number);
CREATE INDEX users_anonymous ON users (created_at) WHERE anonymous;

CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    api TEXT NOT NULL,
    name TEXT,
    user_agent TEXT,
    address TEXT,
    method TEXT NOT NULL,
    authenticated_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    refreshed_at INTEGER,
    refresh_counter INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;

CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_resumable ON sessions (user_id, last_used_at)
    WHERE api = 'session' AND ended_at IS NULL;
CREATE INDEX sessions_stale ON sessions (coalesce(ended_at, last_used_at))
    WHERE api <> 'session' OR ended_at IS NOT NULL;

CREATE TABLE session_tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX session_tokens_session ON session_tokens (session_id);
CREATE INDEX session_tokens_user ON session_tokens (user_id);

CREATE TABLE codes (
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    hash BLOB NOT NULL,
    link_hash BLOB NOT NULL,
    sent_to TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX codes_link ON codes (link_hash);
CREATE INDEX codes_made ON codes (made_at);

CREATE TABLE keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kid TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL,
    verifies_until INTEGER
) STRICT;

-- `user_id` refers to nothing: users of other issuers own jobs too.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL,
    upstream TEXT NOT NULL,
    user_id BLOB NOT NULL,
    session_id BLOB REFERENCES sessions (id) ON DELETE CASCADE,
    status TEXT,
    progress TEXT,
    extra TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (upstream, job_id)
) STRICT;

CREATE INDEX jobs_session ON jobs (session_id, created_at);
CREATE INDEX jobs_user ON jobs (user_id);

-- Written by a ping, to see whether the disk takes it.
CREATE TABLE pulse (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    beats INTEGER NOT NULL
) STRICT;

INSERT INTO pulse VALUES (1, 0);
