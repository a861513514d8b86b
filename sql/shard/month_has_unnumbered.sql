-- Whether the partition that contains `month` has events without a number yet. Planner: see month_goes_on.
CREATE OR REPLACE FUNCTION month_has_unnumbered(month timestamptz) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    range record;
    found_one boolean;
BEGIN
    SELECT * INTO range FROM shard.event_range(month);
    EXECUTE format($found$
        SELECT EXISTS (
            SELECT FROM shard.pending_batches b
            WHERE b.first_dt < $2 AND b.last_dt >= $1
              AND EXISTS (SELECT FROM shard.%I e WHERE e.batch_id = b.batch_id)
        )
    $found$, range.partition) INTO found_one USING range.first, range.upto;
    RETURN found_one;
END $$;
