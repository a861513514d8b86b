-- Heartbeat of a process for its waiting callers `p_lock_ids`.
--
-- - Result: a 'look' row for each lock id that no longer waits under a live process (its caller must call
--   again); a 'next' row for each key that the process waits for.
-- - `p_forget`: also deletes waiting rows that no live process has waited for since at least a minute, of any
--   key; they are marked by one call (`left_at`) and deleted by a later one. Deletes processes without a
--   heartbeat for an hour.
-- - Locks: no advisory lock; rows of `locks` with SKIP LOCKED. Planner: see take_lock.
CREATE OR REPLACE FUNCTION keep_waiting(p_process uuid, p_lock_ids uuid[], p_forget boolean)
RETURNS SETOF shard.lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    moment timestamptz;
BEGIN
    PERFORM shard.say_alive(p_process);
    moment := clock_timestamp();
    RETURN QUERY
    SELECT 'look', w.lock_id, NULL::bigint, NULL::timestamptz, NULL::text, NULL::boolean, NULL::bigint
    FROM unnest(p_lock_ids) AS w (lock_id)
    WHERE NOT EXISTS (SELECT FROM shard.locks l JOIN shard.lock_processes p ON p.process = l.process
                      WHERE l.lock_id = w.lock_id AND l.state = 'w' AND p.alive_until > moment);
    RETURN QUERY
    SELECT o.* FROM (SELECT DISTINCT l.key FROM shard.locks l WHERE l.process = p_process AND l.state = 'w') k,
        LATERAL shard.lock_outlook(k.key) o;
    IF p_forget THEN
        -- Abandoned places of all keys: marked first, deleted after a minute.
        DELETE FROM shard.locks l WHERE l.lock_id IN (
            SELECT w.lock_id FROM shard.locks w WHERE w.state = 'w' AND w.left_at < moment - interval '1 minute'
            AND NOT EXISTS (SELECT FROM shard.lock_processes p WHERE p.process = w.process AND p.alive_until > moment)
            FOR UPDATE SKIP LOCKED
        );
        UPDATE shard.locks l SET left_at = moment WHERE l.lock_id IN (
            SELECT w.lock_id FROM shard.locks w WHERE w.state = 'w' AND w.left_at IS NULL
            AND NOT EXISTS (SELECT FROM shard.lock_processes p WHERE p.process = w.process AND p.alive_until > moment)
            FOR UPDATE SKIP LOCKED
        );
        DELETE FROM shard.lock_processes p WHERE p.alive_until < moment - interval '1 hour';
    END IF;
END $$;
