-- What another process ended: gateways that run over this store read it every second.

CREATE TABLE ends (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    user_id BLOB,
    session_id BLOB,
    token INTEGER,
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX ends_at ON ends (at);
