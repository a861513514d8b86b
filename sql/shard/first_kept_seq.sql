-- The number of the first event after `after` that is still there.
CREATE OR REPLACE FUNCTION shard.first_kept_seq(after bigint) RETURNS bigint STABLE LANGUAGE plpgsql
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
