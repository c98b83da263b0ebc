-- What an operator has refused of other issuers' tokens: gateways that run over this store read it at their start and after.

CREATE TABLE bans (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT NOT NULL,
    whose TEXT NOT NULL,
    since BIGINT NOT NULL
);

CREATE INDEX bans_whose ON bans (kind, whose);
CREATE INDEX bans_since ON bans (since);
