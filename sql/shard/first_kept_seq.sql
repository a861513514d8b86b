-- The first number of the first batch that begins after `after` and still has events; NULL if there is none.
-- Locks: the gate, shared (see create_event_months). Planner: see numbered_events.
CREATE OR REPLACE FUNCTION first_kept_seq(after bigint) RETURNS bigint STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('shard.event_months'));
    RETURN (
        SELECT b.first_seq FROM shard.batches b
        WHERE b.first_seq > after AND EXISTS (
            SELECT FROM shard.events e WHERE e.batch_id = b.batch_id AND e.dt BETWEEN b.first_dt AND b.last_dt
        ) ORDER BY b.first_seq LIMIT 1
    );
END $$;
