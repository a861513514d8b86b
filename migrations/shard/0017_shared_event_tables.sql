-- Events of far times share tables. A month each made a call with events of 1,560 months fail for ever, and of more than
-- about a thousand tables none could be attached at all. Within three years of now every month has its own table, as before;
-- so do other months while there are not many. What is left of a decade then shares one, between those that are there.

-- The tables of events: their times, `upto` exclusive. One of a month is named after it (events_2024_02), a shared one after
-- its first and last month (events_1970_01_to_1979_12).
CREATE FUNCTION event_ranges() RETURNS TABLE (partition text, first timestamptz, upto timestamptz) STABLE LANGUAGE sql AS $$
    SELECT n.name, make_timestamptz(n.part[1]::int, n.part[2]::int, 1, 0, 0, 0, 'UTC'),
           month_after(make_timestamptz(coalesce(n.part[3], n.part[1])::int, coalesce(n.part[4], n.part[2])::int, 1, 0, 0, 0, 'UTC'))
    FROM (
        SELECT c.relname AS name,
               regexp_match(c.relname, '^events_([0-9]{4})_([0-9]{2})(?:_to_([0-9]{4})_([0-9]{2}))?$') AS part
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'events'::regclass
    ) n WHERE n.part IS NOT NULL
    ORDER BY 2
$$;

-- The table that holds a month's events, if there is one.
CREATE FUNCTION event_range(month timestamptz, OUT partition text, OUT first timestamptz, OUT upto timestamptz)
STABLE LANGUAGE sql AS $$
    SELECT r.partition, r.first, r.upto FROM event_ranges() r WHERE r.first <= month AND month < r.upto
$$;

CREATE OR REPLACE FUNCTION missing_event_months(months timestamptz[]) RETURNS timestamptz[] STABLE LANGUAGE sql AS $$
    SELECT coalesce(array_agg(m.month ORDER BY m.month), '{}') FROM (SELECT DISTINCT unnest(months) AS month) m
    WHERE NOT EXISTS (SELECT FROM event_ranges() r WHERE r.first <= m.month AND m.month < r.upto)
$$;

-- The times of the table to be made for a month, which lie in none of the tables from `firsts` to `uptos`.
CREATE FUNCTION planned_event_range(
    month timestamptz, may_share boolean, firsts timestamptz[], uptos timestamptz[], OUT first timestamptz, OUT upto timestamptz
) STABLE LANGUAGE plpgsql AS $$
DECLARE
    present timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    near_first timestamptz := (present - interval '36 months') AT TIME ZONE 'UTC';
    near_upto timestamptz := (present + interval '37 months') AT TIME ZONE 'UTC';
    decade timestamp := make_timestamp(extract(year FROM month AT TIME ZONE 'UTC')::int / 10 * 10, 1, 1, 0, 0, 0);
BEGIN
    first := month;
    upto := month_after(month);
    IF NOT may_share OR (month >= near_first AND month < near_upto) THEN
        RETURN;
    END IF;
    first := greatest(decade AT TIME ZONE 'UTC', (SELECT max(t) FROM unnest(uptos) AS t WHERE t <= month),
                      CASE WHEN month >= near_upto THEN near_upto END);
    upto := least((decade + interval '10 years') AT TIME ZONE 'UTC', (SELECT min(t) FROM unnest(firsts) AS t WHERE t > month),
                  CASE WHEN month < near_first THEN near_first END);
END $$;

-- Makes sure that there are tables for these months (their first moments); far ones share if `sharing`, or if there are
-- many tables. The tables are made first, which locks nobody out. Then the gate is waited for 40 ms at most (others wait
-- behind it) and held while they are attached; if it cannot be had, others go on and it is tried again.
CREATE FUNCTION create_event_months(months timestamptz[], sharing boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    many CONSTANT int := 160;
    patience text := current_setting('lock_timeout');
    missing timestamptz[] := missing_event_months(months);
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
    PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.create_event_months'));
    -- By a snapshot of after the wait. (A name that was looked up before it would still be taken for unknown.)
    missing := missing_event_months(months);
    IF cardinality(missing) = 0 THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(r.first), '{}'), coalesce(array_agg(r.upto), '{}') INTO firsts, uptos FROM event_ranges() r;
    FOREACH month IN ARRAY missing LOOP
        CONTINUE WHEN EXISTS (SELECT FROM unnest(firsts, uptos) AS t (first, upto) WHERE t.first <= month AND month < t.upto);
        SELECT * INTO planned FROM planned_event_range(month, sharing OR cardinality(firsts) >= many, firsts, uptos);
        name := 'events_' || to_char(planned.first AT TIME ZONE 'UTC', 'YYYY_MM');
        IF planned.upto > month_after(planned.first) THEN
            name := name || '_to_' || to_char(planned.upto AT TIME ZONE 'UTC' - interval '1 month', 'YYYY_MM');
        END IF;
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
        EXECUTE format('CREATE INDEX %I ON %I (account_id, dt)', name || '_by_account', name);
        EXECUTE format('CREATE INDEX %I ON %I (batch_id)', name || '_by_batch', name);
        names := names || name;
        firsts := firsts || planned.first;
        uptos := uptos || planned.upto;
    END LOOP;
    FOR try IN 1..30 LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '40ms', true);
            PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.event_months'));
            FOR n IN 1..cardinality(names) LOOP
                EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', names[n],
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

-- As before, for older programs and for who makes a few months.
CREATE OR REPLACE FUNCTION create_event_months(months timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM create_event_months(months, false);
END $$;

-- The first month of the latest table that has events; null: none has. That it is more than a month later than the newest
-- event, only a clock says.
CREATE FUNCTION newest_event_month() RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    range record;
    has_events boolean;
BEGIN
    FOR range IN SELECT * FROM event_ranges() r ORDER BY r.first DESC LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', range.partition) INTO has_events;
        IF has_events THEN
            RETURN range.first;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- What follows is as before, but of any table of events, named by the first of its months.

CREATE OR REPLACE FUNCTION month_goes_on(month timestamptz, since bigint) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    range record;
    goes_on boolean;
BEGIN
    SELECT * INTO range FROM event_range(month);
    EXECUTE format($found$
        SELECT EXISTS (
            SELECT FROM batches b
            WHERE b.first_seq >= coalesce((SELECT max(first_seq) FROM batches WHERE first_seq <= $3 + 1), 0)
              AND b.first_seq + b.events - 1 > $3 AND b.first_dt < $2 AND b.last_dt >= $1
              AND EXISTS (SELECT FROM %I e WHERE e.batch_id = b.batch_id AND b.first_seq + e.place > $3)
        )
    $found$, range.partition) INTO goes_on USING range.first, range.upto, since;
    RETURN goes_on;
END $$;

CREATE OR REPLACE FUNCTION month_has_unnumbered(month timestamptz) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    range record;
    found_one boolean;
BEGIN
    SELECT * INTO range FROM event_range(month);
    EXECUTE format($found$
        SELECT EXISTS (
            SELECT FROM pending_batches b
            WHERE b.first_dt < $2 AND b.last_dt >= $1
              AND EXISTS (SELECT FROM %I e WHERE e.batch_id = b.batch_id)
        )
    $found$, range.partition) INTO found_one USING range.first, range.upto;
    RETURN found_one;
END $$;

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
    -- One after another.
    PERFORM FROM horizon FOR UPDATE;
    SELECT * INTO range FROM event_range(month);
    IF range.partition IS NULL THEN
        RETURN 'it is not there';
    END IF;
    -- Kept no longer, and behind: should it be kept again, it begins again.
    WITH deleted AS (
        DELETE FROM groupings g USING sequence s WHERE g.aggregated_seq < s.last_seq AND NOT EXISTS (
            SELECT FROM unnest(types, attribute_lists, intervals) AS w (type, attributes, interval)
            WHERE (w.type, w.attributes, w.interval) = (g.type, g.attributes, g.interval)
        ) RETURNING g.grouping_id
    ) SELECT array_agg(grouping_id) INTO behind FROM deleted;
    IF behind IS NOT NULL THEN
        DELETE FROM aggregates WHERE grouping_id = ANY (behind);
    END IF;
    SELECT n.why, n.aggregated INTO why, aggregated FROM month_is_needed(month, types, attribute_lists, intervals, 0) n;
    IF why IS NOT NULL THEN
        RETURN why;
    END IF;
    -- Of one moment: what is there then has numbers up to `upto`, or none yet.
    EXECUTE format($sums$
        WITH sums AS (
            INSERT INTO closing_balances AS c (account_id, tuple_id, debit, credit, events)
            SELECT account_id, tuple_id, coalesce(sum(debit), 0), coalesce(sum(credit), 0), count(*)
            FROM %1$I GROUP BY account_id, tuple_id
            ON CONFLICT (account_id, tuple_id) DO UPDATE
                SET debit = c.debit + excluded.debit, credit = c.credit + excluded.credit,
                    events = c.events + excluded.events
        )
        SELECT s.last_seq, EXISTS (
            SELECT FROM pending_batches b CROSS JOIN LATERAL (
                SELECT FROM %1$I e WHERE e.batch_id = b.batch_id LIMIT 1
            ) e WHERE b.first_dt < $2 AND b.last_dt >= $1
        ) FROM sequence s
    $sums$, range.partition) INTO upto, unnumbered USING range.first, range.upto;
    why := 'it is in use';
    FOR try IN 1..tries LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '40ms', true);
            PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.create_event_months'));
            -- A grouping that is added now waits, and finds the sums.
            LOCK TABLE groupings IN SHARE MODE;
            LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE;
            IF unnumbered OR month_goes_on(month, upto) THEN
                why := 'it is being written to';
                EXIT;
            END IF;
            SELECT n.why INTO why FROM month_is_needed(month, types, attribute_lists, intervals, aggregated) n;
            EXIT WHEN why IS NOT NULL;
            EXECUTE format('DROP TABLE %I', range.partition);
            UPDATE horizon h SET horizon = greatest(h.horizon, range.upto), drops = h.drops + 1;
            RETURN NULL;
        EXCEPTION WHEN lock_not_available THEN
            why := 'it is in use';
            PERFORM pg_sleep(0.1 + 0.2 * random());
        END;
    END LOOP;
    -- Takes the sums back.
    RAISE '%', why USING ERRCODE = 'LP001';
END $$;

-- A month's table need not be named after it any more.
DROP FUNCTION event_partition(timestamptz);
