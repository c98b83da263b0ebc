-- Users, their sessions, tokens and codes, the signing keys, and the jobs of upstreams.
-- Times are milliseconds since the Unix epoch, JSON is text (jsonb knows no \u0000).

CREATE TABLE users (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    username TEXT,
    username_key TEXT UNIQUE,
    email TEXT UNIQUE,
    phone TEXT UNIQUE,
    password TEXT,
    role TEXT NOT NULL,
    anonymous BOOLEAN NOT NULL,
    disabled BOOLEAN NOT NULL,
    banned_until BIGINT,
    app_metadata TEXT NOT NULL,
    user_metadata TEXT NOT NULL,
    email_confirmed_at BIGINT,
    phone_confirmed_at BIGINT,
    confirmation_sent_at BIGINT,
    recovery_sent_at BIGINT,
    reauthentication_sent_at BIGINT,
    email_change TEXT,
    email_change_sent_at BIGINT,
    last_sign_in_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    -- E-mail, username and full name in lower case, for the list of users.
    search TEXT NOT NULL
);

CREATE INDEX users_created ON users (created_at, number);
CREATE INDEX users_anonymous ON users (created_at) WHERE anonymous;

CREATE TABLE sessions (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id UUID NOT NULL UNIQUE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    api TEXT NOT NULL,
    name TEXT,
    user_agent TEXT,
    address TEXT,
    method TEXT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    refreshed_at BIGINT,
    refresh_counter BIGINT NOT NULL,
    ended_at BIGINT
);

CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_resumable ON sessions (user_id, last_used_at)
    WHERE api = 'session' AND ended_at IS NULL;
CREATE INDEX sessions_stale ON sessions (coalesce(ended_at, last_used_at))
    WHERE api <> 'session' OR ended_at IS NOT NULL;

CREATE TABLE session_tokens (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    session_id UUID NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);

CREATE INDEX session_tokens_session ON session_tokens (session_id);
CREATE INDEX session_tokens_user ON session_tokens (user_id);

CREATE TABLE codes (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    hash BYTEA NOT NULL,
    link_hash BYTEA NOT NULL,
    sent_to TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind)
);

CREATE INDEX codes_link ON codes (link_hash);
CREATE INDEX codes_made ON codes (made_at);

CREATE TABLE keys (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kid TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    verifies_until BIGINT
);

-- `user_id` refers to nothing: users of other issuers own jobs too.
CREATE TABLE jobs (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id TEXT NOT NULL,
    upstream TEXT NOT NULL,
    user_id UUID NOT NULL,
    session_id UUID REFERENCES sessions (id) ON DELETE CASCADE,
    status TEXT,
    progress TEXT,
    extra TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (upstream, job_id)
);

CREATE INDEX jobs_session ON jobs (session_id, created_at);
CREATE INDEX jobs_user ON jobs (user_id);

