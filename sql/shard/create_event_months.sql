-- Makes sure that there are tables for these months (their first moments); far ones share if `sharing`, or if there are
-- many tables. The tables are made first, which locks nobody out. Then the gate is waited for 40 ms at most (others wait
-- behind it) and held while they are attached; if it cannot be had, others go on and it is tried again.
CREATE OR REPLACE FUNCTION shard.create_event_months(months timestamptz[], sharing boolean) RETURNS void LANGUAGE plpgsql AS $$
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
    -- By a snapshot of after the wait. (A name that was looked up before it would still be taken for unknown.)
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
            -- Everybody waits for this transaction now: should its client be paused or cut off, it ends soon.
            PERFORM set_config('idle_in_transaction_session_timeout', '2000', true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.02 + 0.04 * random());
        END;
    END LOOP;
    RAISE 'a month could not be attached: events are in use' USING ERRCODE = 'lock_not_available';
END $$;
