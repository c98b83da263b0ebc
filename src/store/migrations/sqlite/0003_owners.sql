-- Jobs with their owners: users of other issuers too, by issuer and subject. Their files, and ids that clients
-- choose, are rows of their own kind. No version before this one wrote a job.

DROP TABLE jobs;

CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- 'job', 'file' or 'client'.
    kind TEXT NOT NULL,
    -- Where the id counts: the name of an upstream, unless the configuration says another.
    space TEXT NOT NULL,
    job_id TEXT NOT NULL,
    -- A user of ours; of others, what stands for issuer and subject.
    user_id BLOB NOT NULL,
    issuer TEXT,
    subject TEXT,
    session_id BLOB REFERENCES sessions (id) ON DELETE CASCADE,
    outside_session TEXT,
    -- The job of a file; none where it is nobody's but its owner's.
    job INTEGER REFERENCES jobs (number) ON DELETE CASCADE,
    status TEXT,
    progress TEXT,
    extra TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (kind, space, job_id)
) STRICT;

CREATE INDEX jobs_session ON jobs (session_id, kind, created_at);
CREATE INDEX jobs_user ON jobs (user_id, kind, created_at);
CREATE INDEX jobs_job ON jobs (job) WHERE job IS NOT NULL;
CREATE INDEX jobs_updated ON jobs (updated_at) WHERE job IS NULL;

-- What was deleted or grew too old: never again an id that nobody knows.
CREATE TABLE gone (
    kind TEXT NOT NULL,
    space TEXT NOT NULL,
    job_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, space, job_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX gone_at ON gone (at);

CREATE TRIGGER jobs_gone AFTER DELETE ON jobs BEGIN
    INSERT INTO gone (kind, space, job_id, at)
        VALUES (old.kind, old.space, old.job_id, unixepoch() * 1000)
        ON CONFLICT (kind, space, job_id) DO UPDATE SET at = excluded.at;
END;
