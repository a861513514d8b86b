-- Drops the partition that contains `month` and adds its sums to `closing_balances`. Returns NULL if done, or
-- the reason why not. The arrays are the configured groupings, as in `groupings`; `tries` limits the lock
-- attempts.
--
-- - One statement, so a killed client leaves nothing half done, and a paused one holds no locks.
-- - The sums are computed first, which takes long and blocks nobody. Then, under a lock of the whole table,
--   the function checks that no event has come since, and drops the partition.
-- - Locks: the row of `horizon` (one drop at a time); then, with a lock_timeout of 40 ms, because readers and
--   writers queue behind the request: advisory lock `create_event_months`, `groupings` (SHARE), `events`
--   (ACCESS EXCLUSIVE). They are held for some index lookups and a catalogue change; tries are 100 to 300 ms
--   apart.
-- - Errors: LP001 with the reason, if the month must stay after the sums were added: the rollback removes
--   them.
-- - DETACH CONCURRENTLY instead would hide the month's rows, and fail inserts into it, until the oldest
--   reader has ended; and after an interruption until the detach is finalized.
CREATE OR REPLACE FUNCTION drop_event_month(
    month timestamptz, types text[], attribute_lists text[], intervals text[], tries int
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    range record;
    why text;
    aggregated bigint;
    upto bigint;
    unnumbered boolean;
    behind int[];
BEGIN
    -- One drop at a time.
    PERFORM FROM shard.horizon FOR UPDATE;
    SELECT * INTO range FROM shard.event_range(month);
    IF range.partition IS NULL THEN
        RETURN 'it is not there';
    END IF;
    -- Groupings that are no longer configured and lag: configured again, they are aggregated from the start.
    WITH deleted AS (
        DELETE FROM shard.groupings g USING shard.sequence s WHERE g.aggregated_seq < s.last_seq AND NOT EXISTS (
            SELECT FROM unnest(types, attribute_lists, intervals) AS w (type, attributes, interval)
            WHERE (w.type, w.attributes, w.interval) = (g.type, g.attributes, g.interval)
        ) RETURNING g.grouping_id
    ) SELECT array_agg(grouping_id) INTO behind FROM deleted;
    IF behind IS NOT NULL THEN
        DELETE FROM shard.aggregates WHERE grouping_id = ANY (behind);
    END IF;
    SELECT n.why, n.aggregated INTO why, aggregated FROM shard.month_is_needed(month, types, attribute_lists, intervals, 0) n;
    IF why IS NOT NULL THEN
        RETURN why;
    END IF;
    -- One snapshot: its events have numbers up to `upto`, or none yet (`unnumbered`).
    EXECUTE format($sums$
        WITH sums AS (
            INSERT INTO shard.closing_balances AS c (account_id, tuple_id, debit, credit, events)
            SELECT account_id, tuple_id, coalesce(sum(debit), 0), coalesce(sum(credit), 0), count(*)
            FROM shard.%1$I GROUP BY account_id, tuple_id
            ON CONFLICT (account_id, tuple_id) DO UPDATE
                SET debit = c.debit + excluded.debit, credit = c.credit + excluded.credit,
                    events = c.events + excluded.events
        )
        SELECT s.last_seq, EXISTS (
            SELECT FROM shard.pending_batches b CROSS JOIN LATERAL (
                SELECT FROM shard.%1$I e WHERE e.batch_id = b.batch_id LIMIT 1
            ) e WHERE b.first_dt < $2 AND b.last_dt >= $1
        ) FROM shard.sequence s
    $sums$, range.partition) INTO upto, unnumbered USING range.first, range.upto;
    why := 'it is in use';
    FOR try IN 1..tries LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '40ms', true);
            PERFORM pg_advisory_xact_lock(hashtext('shard.create_event_months'));
            -- A concurrent insert of a grouping waits, and finds the closing balances.
            LOCK TABLE shard.groupings IN SHARE MODE;
            LOCK TABLE ONLY shard.events IN ACCESS EXCLUSIVE MODE;
            IF unnumbered OR shard.month_goes_on(month, upto) THEN
                why := 'it is being written to';
                EXIT;
            END IF;
            SELECT n.why INTO why FROM shard.month_is_needed(month, types, attribute_lists, intervals, aggregated) n;
            EXIT WHEN why IS NOT NULL;
            EXECUTE format('DROP TABLE shard.%I', range.partition);
            UPDATE shard.horizon h SET horizon = greatest(h.horizon, range.upto), drops = h.drops + 1;
            RETURN NULL;
        EXCEPTION WHEN lock_not_available THEN
            why := 'it is in use';
            PERFORM pg_sleep(0.1 + 0.2 * random());
        END;
    END LOOP;
    -- The rollback removes the sums.
    RAISE '%', why USING ERRCODE = 'LP001';
END $$;
