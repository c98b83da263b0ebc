-- Jobs with their owners: users of other issuers too, by issuer and subject. Their files, and ids that clients
-- choose, are rows of their own kind. No version before this one wrote a job.

DROP TABLE jobs;

CREATE TABLE jobs (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- 'job', 'file' or 'client'.
    kind TEXT NOT NULL,
    -- Where the id counts: the name of an upstream, unless the configuration says another.
    space TEXT NOT NULL,
    job_id TEXT NOT NULL,
    -- A user of ours; of others, what stands for issuer and subject.
    user_id UUID NOT NULL,
    issuer TEXT,
    subject TEXT,
    session_id UUID REFERENCES sessions (id) ON DELETE CASCADE,
    outside_session TEXT,
    -- The job of a file; none where it is nobody's but its owner's.
    job BIGINT REFERENCES jobs (number) ON DELETE CASCADE,
    status TEXT,
    progress TEXT,
    extra TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (kind, space, job_id)
);

CREATE INDEX jobs_session ON jobs (session_id, kind, created_at);
CREATE INDEX jobs_user ON jobs (user_id, kind, created_at);
CREATE INDEX jobs_job ON jobs (job) WHERE job IS NOT NULL;
CREATE INDEX jobs_updated ON jobs (updated_at) WHERE job IS NULL;

-- What was deleted or grew too old: never again an id that nobody knows.
CREATE TABLE gone (
    kind TEXT NOT NULL,
    space TEXT NOT NULL,
    job_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (kind, space, job_id)
);

CREATE INDEX gone_at ON gone (at);

-- The schema is named: a cascade may run with another search path.
CREATE FUNCTION portcullis.jobs_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO portcullis.gone (kind, space, job_id, at)
        VALUES (old.kind, old.space, old.job_id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
        ON CONFLICT (kind, space, job_id) DO UPDATE SET at = excluded.at;
    RETURN NULL;
END
$$;

CREATE TRIGGER jobs_gone AFTER DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION portcullis.jobs_gone();
