-- With each log-in it is asked what a user has too much of.

CREATE INDEX sessions_live ON sessions (user_id, last_used_at, number) WHERE ended_at IS NULL;
CREATE INDEX session_tokens_newest ON session_tokens (user_id, number);
DROP INDEX session_tokens_user;
