-- Adds jobs and answers in their order: the job's id, or that of the job that has its key; and whether it was added now.
-- With `into_lane` they go there, and nothing is answered or changed if that lane is lost; without, they are spread over the
-- lanes of living processes, which are woken at the commit. `keys`, `group_keys` and `errors` are NULL if no job has one. A job with a key that waits already
-- is not added; within the batch the first one counts. A job whose group has jobs goes to their lane and is blocked; the
-- first of a group in the batch blocks the others of it. A key that somebody else adds meanwhile fails the statement,
-- which is then repeated and finds it.
CREATE OR REPLACE FUNCTION control.enqueue_jobs(
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
        IF NOT control.lease_held(into_lane, held_epoch) THEN
            RETURN;
        END IF;
    ELSE
        -- Nobody dissolves them before the commit.
        SELECT array_agg(l.lease_id) INTO lanes
        FROM (SELECT lease_id FROM control.leases WHERE class = lane_class AND expires_at > now() FOR KEY SHARE) AS l;
        IF lanes IS NULL THEN
            SELECT ARRAY[min(lease_id)] INTO lanes FROM control.leases WHERE class = lane_class AND name = 'unclaimed';
        END IF;
        turn := floor(random() * cardinality(lanes))::int;
    END IF;
    IF group_keys IS NOT NULL OR keys IS NOT NULL AND (
        (SELECT count(*) <> count(DISTINCT k) FROM unnest(keys) AS k WHERE k IS NOT NULL)
        OR EXISTS (
            SELECT FROM unnest(keys) AS k CROSS JOIN LATERAL (
                SELECT FROM control.jobs WHERE queue = for_queue AND job_key = k LIMIT 1
            ) AS j
        )
    ) THEN
        RETURN QUERY SELECT * FROM control.enqueue_dependent_jobs(
            for_queue, lanes, turn, priorities, delays, keys, group_keys, payloads, tries, errors,
            CASE WHEN into_lane IS NULL THEN wake_channel END
        );
        RETURN;
    END IF;
    RETURN QUERY
    INSERT INTO control.jobs (queue, lane, priority, run_at, job_key, attempts, payload, last_error)
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
