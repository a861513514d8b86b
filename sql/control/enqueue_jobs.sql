-- Enqueues jobs. Returns, in the order of the arrays, the id of each job and whether it was added.
--
-- - Parameters: `priorities` 0 to 3, `delays` in seconds; `keys`, `group_keys` and `errors` are NULL if no
--   job has one. With `into_lane`, all jobs go to that lane; no row is returned and nothing is written if its
--   lease is lost. Without, they are spread over the lanes of live processes (class `lane_class`), which are
--   notified on `wake_channel` (payload: the lane) at commit; without live processes they go to the lane
--   `unclaimed`.
-- - A job whose key exists is not added, and the id is that of the existing job; within the batch the first
--   counts. A job whose group has jobs goes to their lane and is blocked.
-- - Cost: the common case, no groups and only new keys, is one plain insert.
-- - Locks: the lane's lease row (FOR SHARE) or the lanes' lease rows (FOR KEY SHARE), then those of
--   enqueue_dependent_jobs.
-- - Errors: 23505 if a concurrent transaction adds one of the keys; a retry finds it.
-- - Planner: see accept_orders.
CREATE OR REPLACE FUNCTION enqueue_jobs(
    for_queue text, into_lane bigint, held_epoch bigint, lane_class text, priorities smallint[], delays float8[],
    keys text[], group_keys text[], payloads bytea[], tries int[], errors text[], wake_channel text
) RETURNS TABLE (id bigint, added boolean) LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    lanes bigint[] := ARRAY[into_lane];
    -- Index in `lanes` (from 0) of the first job's lane; the other jobs follow round-robin.
    turn int := 0;
BEGIN
    IF into_lane IS NOT NULL THEN
        IF NOT control.lease_held(into_lane, held_epoch) THEN
            RETURN;
        END IF;
    ELSE
        -- The row locks keep the lanes from being deleted before the commit.
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
