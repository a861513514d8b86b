-- Ensures that the months (each given by its start, UTC) have partitions of `events`. Distant months share
-- partitions if `sharing`, or if there are `many` partitions (planned_event_range).
--
-- - The gate: advisory lock `event_months`, held shared by statements that read or write events, from before
--   they touch `events` until the end of the transaction, and exclusive while a partition is attached. A
--   backend that is building its relcache partition descriptor can lose a concurrent invalidation message
--   (Postgres 15.18). Without the gate, a partition attached in those microseconds is missing from all reads
--   of that connection, and not found by its writes, until the connection ends or the next partition is
--   attached: balances are wrong for a while, aggregates for ever. A table lock instead would make attaching
--   wait for every dump and check.
-- - The transaction that attaches must write no events into the partition: they would be visible a moment
--   before the other backends get the invalidation. It must commit immediately.
-- - Locks: advisory lock `create_event_months`. Tables and indexes are created next and block nobody. Then
--   the gate and the locks of ATTACH PARTITION, with a lock_timeout of 40 ms, because readers and writers
--   queue behind the request; 30 tries, 20 to 60 ms apart.
-- - Errors: 55P03 (lock_not_available) after the last try.
CREATE OR REPLACE FUNCTION create_event_months(months timestamptz[], sharing boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    many CONSTANT int := 160;
    patience text := current_setting('lock_timeout');
    missing timestamptz[] := shard.missing_event_months(months);
    firsts timestamptz[];
    uptos timestamptz[];
    names text[] := '{}';
    month timestamptz;
    planned record;
    name text;
BEGIN
    IF cardinality(missing) = 0 THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('shard.create_event_months'));
    -- Again, with a snapshot from after the wait. (A lookup by name could be answered from a stale cache.)
    missing := shard.missing_event_months(months);
    IF cardinality(missing) = 0 THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(r.first), '{}'), coalesce(array_agg(r.upto), '{}') INTO firsts, uptos FROM shard.event_ranges() r;
    FOREACH month IN ARRAY missing LOOP
        CONTINUE WHEN EXISTS (SELECT FROM unnest(firsts, uptos) AS t (first, upto) WHERE t.first <= month AND month < t.upto);
        SELECT * INTO planned FROM shard.planned_event_range(month, sharing OR cardinality(firsts) >= many, firsts, uptos);
        name := 'events_' || to_char(planned.first AT TIME ZONE 'UTC', 'YYYY_MM');
        IF planned.upto > shard.month_after(planned.first) THEN
            name := name || '_to_' || to_char(planned.upto AT TIME ZONE 'UTC' - interval '1 month', 'YYYY_MM');
        END IF;
        EXECUTE format('CREATE TABLE shard.%I (LIKE shard.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('CREATE INDEX %I ON shard.%I (account_id, dt)', name || '_by_account', name);
        EXECUTE format('CREATE INDEX %I ON shard.%I (batch_id)', name || '_by_batch', name);
        names := names || name;
        firsts := firsts || planned.first;
        uptos := uptos || planned.upto;
    END LOOP;
    FOR try IN 1..30 LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '40ms', true);
            PERFORM pg_advisory_xact_lock(hashtext('shard.event_months'));
            FOR n IN 1..cardinality(names) LOOP
                EXECUTE format('ALTER TABLE shard.events ATTACH PARTITION shard.%I FOR VALUES FROM (%L) TO (%L)', names[n],
                               firsts[cardinality(firsts) - cardinality(names) + n], uptos[cardinality(uptos) - cardinality(names) + n]);
            END LOOP;
            PERFORM set_config('lock_timeout', patience, true);
            -- Readers and writers wait for this transaction: it ends soon even if its client is paused or cut
            -- off.
            PERFORM set_config('idle_in_transaction_session_timeout', '2000', true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.02 + 0.04 * random());
        END;
    END LOOP;
    RAISE 'a month could not be attached: events are in use' USING ERRCODE = 'lock_not_available';
END $$;
