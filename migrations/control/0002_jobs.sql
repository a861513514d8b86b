-- Durable jobs. Each waits in a lane; a lane is a lease (class `lane/<queue>`), and only the lane's holder works on
-- its jobs. A claim therefore writes nothing, a crash uses up no attempt, and one renewed row keeps any number of jobs.
CREATE TABLE jobs (
    job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    -- leases.lease_id. No foreign key: it would cost a lock per job; lanes are dissolved only when empty.
    lane bigint NOT NULL,
    -- 0 is worked on first.
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 3),
    run_at timestamptz NOT NULL,
    -- Waits for an older job of its group.
    blocked boolean NOT NULL DEFAULT false,
    job_key text,
    group_key text,
    attempts int NOT NULL DEFAULT 0,
    payload bytea NOT NULL,
    last_error text,
    enqueued_at timestamptz NOT NULL DEFAULT now()
);
-- One job per key: enqueueing twice is enqueueing once. Also serves hurrying a job by its key.
CREATE UNIQUE INDEX jobs_by_key ON jobs (queue, job_key) WHERE job_key IS NOT NULL;
-- Serves claims: what is due in a lane, by priority and age.
CREATE INDEX jobs_due ON jobs (lane, priority, run_at, job_id) WHERE NOT blocked;
-- Serves unblocking the next job of a group.
CREATE INDEX jobs_by_group ON jobs (queue, group_key, job_id) WHERE group_key IS NOT NULL;

-- Jobs given up, with the reason; they wait for an operator.
CREATE TABLE dead_jobs (
    job_id bigint PRIMARY KEY,
    queue text NOT NULL,
    priority smallint NOT NULL,
    job_key text,
    group_key text,
    attempts int NOT NULL,
    payload bytea NOT NULL,
    reason text NOT NULL,
    enqueued_at timestamptz NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now()
);
-- Serves re-driving by key.
CREATE INDEX dead_jobs_by_key ON dead_jobs (queue, job_key);
