-- What reads events by their numbers finds them through their batches: planned while the tables were small or had no
-- statistics yet, it read all events of all months instead, and cost more the more there were.
ALTER FUNCTION numbered_events(bigint, bigint, bigint)
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off;
ALTER FUNCTION numbered_sums(bigint, bigint, bigint)
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off;
ALTER FUNCTION first_kept_seq(bigint)
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off;

-- As before, but planned once a connection: a function in SQL is planned anew by every statement that calls it.
CREATE OR REPLACE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE;
    RETURN FOUND;
END $$;
