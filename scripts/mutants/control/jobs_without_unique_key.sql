-- The enqueueing looks before it adds; only the index knows of what another transaction is adding.
DROP INDEX jobs_by_key;
CREATE INDEX jobs_by_key ON jobs (queue, job_key) WHERE job_key IS NOT NULL;
