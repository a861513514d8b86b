-- Whether the partition that contains `month` has events with numbers above `since`. Also called under an
-- ACCESS EXCLUSIVE lock of `events`, so it must be fast: it reads only the batches above `since`, and by
-- index only the events of those whose time range overlaps. Planner: index lookups and nested loops only.
CREATE OR REPLACE FUNCTION month_goes_on(month timestamptz, since bigint) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    range record;
    goes_on boolean;
BEGIN
    SELECT * INTO range FROM shard.event_range(month);
    EXECUTE format($found$
        SELECT EXISTS (
            SELECT FROM shard.batches b
            WHERE b.first_seq >= coalesce((SELECT max(first_seq) FROM shard.batches WHERE first_seq <= $3 + 1), 0)
              AND b.first_seq + b.events - 1 > $3 AND b.first_dt < $2 AND b.last_dt >= $1
              AND EXISTS (SELECT FROM shard.%I e WHERE e.batch_id = b.batch_id AND b.first_seq + e.place > $3)
        )
    $found$, range.partition) INTO goes_on USING range.first, range.upto, since;
    RETURN goes_on;
END $$;
