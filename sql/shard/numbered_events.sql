-- Up to `most` events, in order, of the `span` numbers after `after`.
--
-- - STABLE plpgsql: the function reads with the snapshot of the calling statement, and is planned after that
--   snapshot was taken. A plain statement is planned before: a partition attached in between would be missing
--   from the plan while the numbers of its events are in the snapshot, and a reader would skip them for ever.
--   A cached plan is revalidated when it runs, so it is made again after an attach. An SQL function could be
--   inlined into the calling statement's plan.
-- - Cost: only the batches of the page are read. They are found first, so that their times prune partitions.
--   The first may begin before the page, the last may end after it.
-- - Locks: the gate, shared (see create_event_months).
-- - Planner: one generic plan per connection, with index lookups and nested loops; see write_events.
CREATE OR REPLACE FUNCTION numbered_events(after bigint, span bigint, most bigint) RETURNS TABLE (
    seq bigint, type_name text, key text, auxiliary text, event_id text, dt timestamptz, debit numeric, credit numeric, info text
) STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('shard.event_months'));
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT * FROM shard.batches
        WHERE first_seq >= coalesce((SELECT max(first_seq) FROM shard.batches WHERE first_seq <= after + 1), 1)
          AND first_seq <= after + span
        ORDER BY first_seq
    )
    SELECT b.first_seq + e.place AS number, a.type, a.attributes, t.canonical, e.event_id, e.dt, e.debit, e.credit, e.info
    FROM wanted b
    CROSS JOIN LATERAL (
        SELECT * FROM shard.events x WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt
    ) e
    JOIN shard.accounts a USING (account_id) JOIN shard.tuples t USING (tuple_id)
    WHERE b.first_seq + e.place > after AND b.first_seq + e.place <= after + span
    ORDER BY number LIMIT most;
END $$;
