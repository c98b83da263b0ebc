-- What another process ended: gateways that run over this store read it every second.

CREATE TABLE ends (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id UUID,
    session_id UUID,
    token BIGINT,
    at BIGINT NOT NULL
);

CREATE INDEX ends_at ON ends (at);
