-- Enqueueing as a function: planned once per connection, and jobs that depend on no other job apart from the careful case.

-- As before, but planned once a connection: a function in SQL is planned anew by every statement that calls it.
CREATE OR REPLACE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE;
    RETURN FOUND;
END $$;

-- Adds jobs and answers in their order: the job's id, or that of the job that has its key; and whether it was added now.
-- With `into_lane` they go there, and nothing is answered or changed if that lane is lost; without, they are spread over the
-- lanes of living processes, which are woken at the commit. `keys`, `group_keys` and `errors` are NULL if no job has one. A job with a key that waits already
-- is not added; within the batch the first one counts. A job whose group has jobs goes to their lane and is blocked; the
-- first of a group in the batch blocks the others of it. A key that somebody else adds meanwhile fails the statement,
-- which is then repeated and finds it.
CREATE FUNCTION enqueue_jobs(
    for_queue text, into_lane bigint, held_epoch bigint, lane_class text, priorities smallint[], delays float8[],
    keys text[], group_keys text[], payloads bytea[], tries int[], errors text[], wake_channel text
) RETURNS TABLE (id bigint, added boolean) LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    lanes bigint[] := ARRAY[into_lane];
    -- The first job's lane among them; the others follow in turn.
    turn int := 0;
BEGIN
    IF into_lane IS NOT NULL THEN
        IF NOT lease_held(into_lane, held_epoch) THEN
            RETURN;
        END IF;
    ELSE
        -- Nobody dissolves them before the commit.
        SELECT array_agg(l.lease_id) INTO lanes
        FROM (SELECT lease_id FROM leases WHERE class = lane_class AND expires_at > now() FOR KEY SHARE) AS l;
        IF lanes IS NULL THEN
            SELECT ARRAY[min(lease_id)] INTO lanes FROM leases WHERE class = lane_class AND name = 'unclaimed';
        END IF;
        turn := floor(random() * cardinality(lanes))::int;
    END IF;
    IF group_keys IS NOT NULL OR keys IS NOT NULL AND (
        (SELECT count(*) <> count(DISTINCT k) FROM unnest(keys) AS k WHERE k IS NOT NULL)
        OR EXISTS (
            SELECT FROM unnest(keys) AS k CROSS JOIN LATERAL (
                SELECT FROM jobs WHERE queue = for_queue AND job_key = k LIMIT 1
            ) AS j
        )
    ) THEN
        RETURN QUERY SELECT * FROM enqueue_dependent_jobs(
            for_queue, lanes, turn, priorities, delays, keys, group_keys, payloads, tries, errors,
            CASE WHEN into_lane IS NULL THEN wake_channel END
        );
        RETURN;
    END IF;
    RETURN QUERY
    INSERT INTO jobs (queue, lane, priority, run_at, job_key, attempts, payload, last_error)
    SELECT for_queue, lanes[1 + (turn + n - 1) % cardinality(lanes)], priority,
           CASE WHEN delay = 0 THEN now() ELSE now() + make_interval(secs => delay) END, job_key, attempts, payload, last_error
    FROM unnest(priorities, delays, keys, payloads, tries, errors)
        WITH ORDINALITY AS t (priority, delay, job_key, payload, attempts, last_error, n)
    ORDER BY n
    RETURNING job_id, true;
    IF into_lane IS NULL THEN
        PERFORM pg_notify(wake_channel, lanes[1 + (turn + n) % cardinality(lanes)]::text)
        FROM generate_series(0, least(cardinality(payloads), cardinality(lanes)) - 1) AS n;
    END IF;
END $$;

-- The careful case: jobs with groups, or with keys that are there already. `wake_channel` is NULL if nobody is to be woken.
CREATE FUNCTION enqueue_dependent_jobs(
    for_queue text, lanes bigint[], turn int, priorities smallint[], delays float8[], keys text[],
    group_keys text[], payloads bytea[], tries int[], errors text[], wake_channel text
) RETURNS TABLE (id bigint, added boolean) LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    -- Groups are changed by one transaction at a time: whether a job is blocked depends on the group's other jobs.
    PERFORM pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(for_queue || '/' || name, 0) AS key
        FROM unnest(group_keys) AS name WHERE name IS NOT NULL ORDER BY 1
    ) AS locked;
    RETURN QUERY
    WITH input AS MATERIALIZED (
        SELECT n, priority, delay, job_key, group_key, payload, attempts, last_error,
               row_number() OVER (PARTITION BY coalesce(job_key, n::text || '/'), job_key IS NULL ORDER BY n) AS key_turn
        FROM unnest(priorities, delays, keys, group_keys, payloads, tries, errors)
            WITH ORDINALITY AS t (priority, delay, job_key, group_key, payload, attempts, last_error, n)
    ), waiting AS MATERIALIZED (
        SELECT i.n, j.job_id FROM input i CROSS JOIN LATERAL (
            SELECT job_id FROM jobs WHERE queue = for_queue AND job_key = i.job_key LIMIT 1
        ) AS j
    ), fresh AS MATERIALIZED (
        SELECT i.*, row_number() OVER (PARTITION BY group_key ORDER BY n) AS group_turn
        FROM input i WHERE key_turn = 1 AND n NOT IN (SELECT n FROM waiting)
    ), numbered AS MATERIALIZED (
        -- In the order of the batch: it is the order of a group.
        SELECT f.*, nextval(pg_get_serial_sequence('jobs', 'job_id')) AS job_id FROM (SELECT * FROM fresh ORDER BY n) AS f
    ), groups AS MATERIALIZED (
        SELECT f.group_key, j.lane AS old_lane, lanes[1 + (turn + f.n - 1) % cardinality(lanes)] AS new_lane
        FROM fresh f LEFT JOIN LATERAL (
            SELECT lane FROM jobs WHERE queue = for_queue AND group_key = f.group_key LIMIT 1
        ) AS j ON true
        WHERE f.group_key IS NOT NULL AND f.group_turn = 1
    ), placed AS MATERIALIZED (
        SELECT f.*, coalesce(g.old_lane, g.new_lane, lanes[1 + (turn + f.n - 1) % cardinality(lanes)]) AS lane,
               f.group_key IS NOT NULL AND (g.old_lane IS NOT NULL OR f.group_turn > 1) AS blocked
        FROM numbered f LEFT JOIN groups g USING (group_key)
    ), inserted AS (
        INSERT INTO jobs (job_id, queue, lane, priority, run_at, blocked, job_key, group_key, attempts, payload, last_error)
        OVERRIDING SYSTEM VALUE
        SELECT job_id, for_queue, lane, priority, now() + make_interval(secs => delay), blocked, job_key, group_key, attempts,
               payload, last_error
        FROM placed
        RETURNING lane
    ), woken AS (
        SELECT count(pg_notify(wake_channel, lane::text)) FROM (SELECT DISTINCT lane FROM inserted) AS l
        WHERE wake_channel IS NOT NULL
    )
    SELECT coalesce(p.job_id, w.job_id, f.job_id), p.job_id IS NOT NULL
    FROM input i
    LEFT JOIN placed p USING (n)
    LEFT JOIN waiting w USING (n)
    LEFT JOIN placed f ON f.job_key = i.job_key
    WHERE (SELECT count FROM woken) >= 0
    ORDER BY i.n;
END $$;
