-- What an operator has refused of other issuers' tokens: gateways that run over this store read it at their start and after.

CREATE TABLE bans (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    whose TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

CREATE INDEX bans_whose ON bans (kind, whose);
CREATE INDEX bans_since ON bans (since);
