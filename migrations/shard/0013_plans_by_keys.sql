-- What reads events by their numbers finds them through their batches: planned while the tables were small or had no
-- statistics yet, it read all events of all months instead, and cost more the more there were. One plan is kept. It is looked
-- at again when it is run, so under the caller's snapshot, and made anew if a month has been attached since.
ALTER FUNCTION numbered_events(bigint, bigint, bigint)
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION numbered_sums(bigint, bigint, bigint)
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION first_kept_seq(bigint)
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan;

-- As before, but planned once a connection: a function in SQL is planned anew by every statement that calls it.
CREATE OR REPLACE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE;
    RETURN FOUND;
END $$;
