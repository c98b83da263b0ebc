-- Whoever proves an address by six digits has told only the address that is to become theirs.

CREATE INDEX users_email_change ON users (email_change) WHERE email_change IS NOT NULL;
