-- With each log-in it is asked what a user has too much of.

CREATE INDEX sessions_live ON sessions (user_id, last_used_at) WHERE ended_at IS NULL;
