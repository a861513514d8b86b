-- As before, behind the gate, and planned once a connection: a plan that is kept is looked at again when it is run, so under
-- the caller's snapshot, and made anew if a month has been attached since.
-- What reads events by their numbers. A statement is planned before its snapshot is taken; a month that gets its partition
-- in between is not in the plan, while the numbers of its events are in the snapshot, and a reader would pass them over for
-- ever. In a stable function it is the other way round: it reads by the snapshot of the statement that calls it, and is
-- planned when it runs. (plpgsql, because a function in SQL may be put into the calling statement's plan.)

-- At most `most` events with the numbers after `after`, of the `span` numbers that follow it. The first batch may have
-- begun before; the last one may go on after. The batches are found first, so that their months prune the partitions.
CREATE OR REPLACE FUNCTION shard.numbered_events(after bigint, span bigint, most bigint) RETURNS TABLE (
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
