-- Retention: months of events are dropped once they are numbered, aggregated and exported. What they summed up to stays.

-- How far back questions can be answered.
CREATE TABLE horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Events before it may have been dropped; null: none has.
    horizon timestamptz,
    -- Every event up to this number has been dropped. (Later ones may have been, too.)
    dropped_seq bigint NOT NULL DEFAULT 0,
    -- Raised with every drop: whoever reads compares before and after, and so knows that what was read was whole.
    drops bigint NOT NULL DEFAULT 0
);
INSERT INTO horizon DEFAULT VALUES;

-- What all dropped events sum up to, by account and combination of attributes: as fine as a question can be, so that a
-- grouping added later is right as well.
CREATE TABLE closing_balances (
    account_id bigint NOT NULL,
    tuple_id bigint NOT NULL,
    debit numeric NOT NULL,
    credit numeric NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    -- Serves reading, and adding to it.
    PRIMARY KEY (account_id, tuple_id)
);

CREATE FUNCTION month_after(month timestamptz) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS $$
    SELECT (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
$$;

-- The months that have partitions.
CREATE FUNCTION event_months() RETURNS TABLE (month timestamptz) STABLE LANGUAGE sql AS $$
    SELECT make_timestamptz(substr(c.relname, 8, 4)::int, substr(c.relname, 13, 2)::int, 1, 0, 0, 0, 'UTC') AS month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{4}_[0-9]{2}$'
    ORDER BY 1
$$;

CREATE FUNCTION event_partition(month timestamptz) RETURNS text IMMUTABLE LANGUAGE sql AS $$
    SELECT 'events_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM')
$$;

-- Whether events of a month have numbers above `since`. Reads the batches after it, and of the month only those that may
-- touch it, by index: it is asked under a lock that everybody waits for.
CREATE FUNCTION month_goes_on(month timestamptz, since bigint) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    goes_on boolean;
BEGIN
    EXECUTE format($found$
        SELECT EXISTS (
            SELECT FROM batches b
            WHERE b.first_seq >= coalesce((SELECT max(first_seq) FROM batches WHERE first_seq <= $2 + 1), 0)
              AND b.first_seq + b.events - 1 > $2 AND b.first_dt < month_after($1) AND b.last_dt >= $1
              AND EXISTS (SELECT FROM %I e WHERE e.batch_id = b.batch_id AND b.first_seq + e.place > $2)
        )
    $found$, event_partition(month)) INTO goes_on USING month, since;
    RETURN goes_on;
END $$;

-- Whether events of a month have no numbers yet.
CREATE FUNCTION month_has_unnumbered(month timestamptz) RETURNS boolean LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    found_one boolean;
BEGIN
    EXECUTE format($found$
        SELECT EXISTS (
            SELECT FROM pending_batches b
            WHERE b.first_dt < month_after($1) AND b.last_dt >= $1
              AND EXISTS (SELECT FROM %I e WHERE e.batch_id = b.batch_id)
        )
    $found$, event_partition(month)) INTO found_one USING month;
    RETURN found_one;
END $$;

-- Why a month cannot be dropped, or null: it can; and up to which number all groupings are aggregated. The arrays are the
-- groupings that are kept, as in `groupings`. Of a grouping that stands below `least_aggregated` nothing is looked at.
CREATE FUNCTION month_is_needed(
    month timestamptz, types text[], attribute_lists text[], intervals text[], least_aggregated bigint,
    OUT why text, OUT aggregated bigint
) LANGUAGE plpgsql AS $$
DECLARE
    exported bigint;
BEGIN
    IF month_has_unnumbered(month) THEN
        why := 'it has events without numbers';
        RETURN;
    END IF;
    SELECT coalesce(least(min(coalesce(g.aggregated_seq, 0)), (SELECT min(aggregated_seq) FROM groupings)), 0)
    INTO aggregated
    FROM unnest(types, attribute_lists, intervals) AS w (type, attributes, interval)
    LEFT JOIN groupings g USING (type, attributes, interval)
    WHERE EXISTS (SELECT FROM accounts a WHERE a.type = w.type);
    IF aggregated < least_aggregated THEN
        why := 'a grouping is new';
    ELSIF month_goes_on(month, aggregated) THEN
        why := format('it has events that are not aggregated (up to %s)', aggregated);
    END IF;
    IF why IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT e.exported_seq INTO exported FROM export e;
    IF month_goes_on(month, exported) THEN
        why := format('it has events that are not exported (up to %s)', exported);
    END IF;
END $$;

-- Drops a month and keeps its sums; answers why not, or null. One statement, so nothing is half done whoever is killed, and
-- nobody who is paused holds the locks.
--
-- The sums are added up first, which takes its time and locks nobody out. Then, under a lock of the whole table, it is made
-- sure that nothing has come since, and the partition goes. That lock is waited for 40 ms at most (others wait behind it)
-- and held for as long as a catalogue change takes; if it cannot be had, others go on and it is tried again. (Detaching
-- concurrently waits for no one's lock, but from then on hides the month's rows, and fails inserts into it, until the
-- oldest reader has gone; and again, until somebody finishes the job, if it is interrupted.)
CREATE FUNCTION drop_event_month(
    month timestamptz, types text[], attribute_lists text[], intervals text[], tries int
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    partition text := event_partition(month);
    why text;
    aggregated bigint;
    upto bigint;
    unnumbered boolean;
    behind int[];
BEGIN
    -- One after another.
    PERFORM FROM horizon FOR UPDATE;
    IF to_regclass(partition) IS NULL THEN
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
            ) e WHERE b.first_dt < month_after($1) AND b.last_dt >= $1
        ) FROM sequence s
    $sums$, partition) INTO upto, unnumbered USING month;
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
            EXECUTE format('DROP TABLE %I', partition);
            UPDATE horizon h SET horizon = greatest(h.horizon, month_after(month)), drops = h.drops + 1;
            RETURN NULL;
        EXCEPTION WHEN lock_not_available THEN
            why := 'it is in use';
            PERFORM pg_sleep(0.1 + 0.2 * random());
        END;
    END LOOP;
    -- Takes the sums back.
    RAISE '%', why USING ERRCODE = 'LP001';
END $$;

-- Moves `dropped_seq` up to the first event that is still there.
CREATE FUNCTION note_dropped_events() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    noted bigint;
    upto bigint;
BEGIN
    SELECT h.dropped_seq INTO noted FROM horizon h WHERE h.drops > 0;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Of one moment: an event that is numbered meanwhile is not taken for one that is gone.
    SELECT coalesce((
        SELECT b.first_seq - 1 FROM batches b
        WHERE b.first_seq > noted AND EXISTS (
            SELECT FROM events e WHERE e.batch_id = b.batch_id AND e.dt BETWEEN b.first_dt AND b.last_dt
        ) ORDER BY b.first_seq LIMIT 1
    ), s.last_seq) INTO upto FROM sequence s;
    UPDATE horizon h SET dropped_seq = upto WHERE h.dropped_seq < upto;
END $$;

-- As before, and what was dropped is part of every sum. (Aggregates hold it already.)
CREATE OR REPLACE FUNCTION account_sums(
    account bigint, wanted_type text, wanted_attributes text, wanted_interval text,
    year timestamptz, month timestamptz, day timestamptz, cut_off timestamptz, at timestamptz, most_lag bigint
) RETURNS TABLE (part "char", tuple bigint, debit numeric, credit numeric, events bigint) STABLE LANGUAGE plpgsql AS $$
DECLARE
    g groupings;
    lag bigint;
BEGIN
    SELECT * INTO g FROM groupings
    WHERE type = wanted_type AND attributes = wanted_attributes AND interval = wanted_interval;
    IF FOUND THEN
        lag := (SELECT last_seq FROM sequence) - g.aggregated_seq
            + coalesce((SELECT sum(b.events) FROM pending_batches b WHERE b.first_dt < cut_off), 0);
    END IF;
    -- A grouping that is new does not have the dropped events' sums yet.
    IF g.aggregated_seq = 0 AND EXISTS (SELECT FROM closing_balances c WHERE c.account_id = account) THEN
        lag := NULL;
    END IF;
    IF lag IS NULL OR lag > most_lag THEN
        RETURN QUERY
        SELECT 's'::"char", e.tuple_id, sum(e.debit), sum(e.credit), count(*) FROM events e
        WHERE e.account_id = account AND e.dt < at GROUP BY e.tuple_id;
        RETURN QUERY
        SELECT 's'::"char", c.tuple_id, c.debit, c.credit, c.events FROM closing_balances c WHERE c.account_id = account;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'a'::"char", p.group_id, sum(p.debit), sum(p.credit), sum(p.events)::bigint FROM (
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'y' AND a.period < year
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'm'
          AND a.period >= year AND a.period < month
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'd'
          AND a.period >= month AND a.period < day
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'h'
          AND a.period >= day AND a.period < cut_off
    ) p GROUP BY p.group_id;
    RETURN QUERY
    SELECT 's'::"char", e.tuple_id, sum(e.debit), sum(e.credit), count(*) FROM events e
    WHERE e.account_id = account AND e.dt >= cut_off AND e.dt < at GROUP BY e.tuple_id;
    RETURN QUERY
    SELECT 'l'::"char", e.tuple_id, sum(e.debit), sum(e.credit), count(*)
    FROM (SELECT batch_id, first_dt, last_dt FROM pending_batches WHERE first_dt < cut_off
          UNION ALL
          SELECT batch_id, first_dt, last_dt FROM batches WHERE first_seq > g.aggregated_seq AND first_dt < cut_off) b
    CROSS JOIN LATERAL (
        SELECT * FROM events x
        WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt AND x.dt < cut_off AND x.account_id = account
    ) e GROUP BY e.tuple_id;
END $$;
