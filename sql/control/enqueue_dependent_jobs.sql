-- Slow path of enqueue_jobs (parameters and result are described there): jobs with groups, or with keys that
-- exist or repeat within the batch. Jobs are spread over `lanes` round-robin, from index `turn` (from 0). A
-- NULL `wake_channel` sends no notifications.
--
-- - The first job of a group without jobs is not blocked; all others of the group are. They go to its lane.
-- - Cost: linear in the batch. CTEs that both grow with the batch are never joined: the planner does not know
--   their sizes and chooses a nested loop (10,000 jobs with groups: 46 s). Dependencies within the batch come
--   from window functions, stored jobs from a LATERAL lookup per row.
-- - Locks: one advisory lock per group (`QUEUE/GROUP`), in the order of their hashes, before jobs are read.
-- - Errors: 23505 if a concurrent transaction adds one of the keys.
-- - Planner: see accept_orders.
CREATE OR REPLACE FUNCTION enqueue_dependent_jobs(
    for_queue text, lanes bigint[], turn int, priorities smallint[], delays float8[], keys text[],
    group_keys text[], payloads bytea[], tries int[], errors text[], wake_channel text
) RETURNS TABLE (id bigint, added boolean) LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    -- One transaction at a time changes a group: whether a job is blocked depends on the group's other jobs.
    PERFORM pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(for_queue || '/' || name, 0) AS key
        FROM unnest(group_keys) AS name WHERE name IS NOT NULL ORDER BY 1
    ) AS locked;
    RETURN QUERY
    WITH input AS (
        SELECT t.*, w.waiting_id,
               w.waiting_id IS NULL
               AND (t.job_key IS NULL OR row_number() OVER (PARTITION BY t.job_key ORDER BY t.n) = 1) AS is_new
        FROM unnest(priorities, delays, keys, group_keys, payloads, tries, errors)
            WITH ORDINALITY AS t (priority, delay, job_key, group_key, payload, attempts, last_error, n)
        LEFT JOIN LATERAL (
            SELECT j.job_id AS waiting_id FROM control.jobs j WHERE j.queue = for_queue AND j.job_key = t.job_key LIMIT 1
        ) AS w ON true
    ), turns AS (
        SELECT i.*, row_number() OVER (PARTITION BY i.is_new, i.group_key ORDER BY i.n) AS group_turn FROM input i
    ), numbered AS MATERIALIZED (
        -- Ids ascend in the order of the batch, which is the order within a group.
        SELECT s.*, CASE WHEN s.is_new THEN nextval(pg_get_serial_sequence('control.jobs', 'job_id')) END AS new_id
        FROM (SELECT * FROM turns ORDER BY n) AS s
    ), looked AS (
        SELECT m.*, g.old_lane, lanes[1 + (turn + m.n - 1) % cardinality(lanes)] AS own_lane
        FROM numbered m LEFT JOIN LATERAL (
            SELECT j.lane AS old_lane FROM control.jobs j
            WHERE m.is_new AND m.group_turn = 1 AND j.queue = for_queue AND j.group_key = m.group_key LIMIT 1
        ) AS g ON true
    ), placed AS MATERIALIZED (
        SELECT l.*,
               CASE WHEN l.group_key IS NULL THEN l.own_lane
                    ELSE first_value(coalesce(l.old_lane, l.own_lane)) OVER (PARTITION BY l.is_new, l.group_key ORDER BY l.n)
               END AS lane,
               l.group_key IS NOT NULL AND (l.group_turn > 1 OR l.old_lane IS NOT NULL) AS blocked,
               CASE WHEN l.job_key IS NULL THEN l.new_id
                    ELSE coalesce(l.waiting_id, first_value(l.new_id) OVER (PARTITION BY l.job_key ORDER BY l.n))
               END AS its_id
        FROM looked l
    ), inserted AS (
        INSERT INTO control.jobs (job_id, queue, lane, priority, run_at, blocked, job_key, group_key, attempts, payload, last_error)
        OVERRIDING SYSTEM VALUE
        SELECT new_id, for_queue, lane, priority, now() + make_interval(secs => delay), blocked, job_key, group_key, attempts,
               payload, last_error
        FROM placed WHERE is_new ORDER BY n
        RETURNING lane
    ), woken AS (
        SELECT count(pg_notify(wake_channel, lane::text)) FROM (SELECT DISTINCT lane FROM inserted) AS l
        WHERE wake_channel IS NOT NULL
    )
    SELECT p.its_id, p.is_new FROM placed p WHERE (SELECT count FROM woken) >= 0 ORDER BY p.n;
END $$;
