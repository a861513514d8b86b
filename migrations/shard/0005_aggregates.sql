-- Which sums are kept: those of a type by one of its groupings, over the periods of its interval and the longer ones.
CREATE TABLE groupings (
    grouping_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    -- Names of auxiliary attributes, sorted, joined by commas; empty: all events together.
    attributes text NOT NULL,
    interval text NOT NULL CHECK (interval IN ('hour', 'day', 'month')),
    -- The sums hold every event with a number up to this one, and no other.
    aggregated_seq bigint NOT NULL,
    UNIQUE (type, attributes, interval)
);

-- Sums of an account's events over one period. Reading a balance takes the years before the date's, the months before
-- it in its year, the days before it in its month (and hours), so its cost does not grow with the number of days.
CREATE TABLE aggregates (
    account_id bigint NOT NULL,
    grouping_id int NOT NULL,
    level "char" NOT NULL CHECK (level IN ('y', 'm', 'd', 'h')),
    -- The period's beginning (UTC).
    period timestamptz NOT NULL,
    -- The combination of the grouping's attributes (tuples.tuple_id).
    group_id bigint NOT NULL,
    debit numeric NOT NULL,
    credit numeric NOT NULL,
    -- How many events it holds: a group without any is not shown.
    events bigint NOT NULL,
    -- Serves reading and folding.
    PRIMARY KEY (account_id, grouping_id, level, period, group_id)
) WITH (fillfactor = 80);

-- Adds sums to those of some groupings, which must stand at `expected`, and moves them to `upto`: each event is counted
-- once, whoever repeats this. False, and nothing changed, if they stand elsewhere; null if the lease is lost.
CREATE FUNCTION fold_aggregates(
    lease bigint, held_epoch bigint, folded int[], expected bigint, upto bigint,
    new_tuple_ids bigint[], new_tuple_canonicals text[], new_tuple_attributes text[],
    accounts bigint[], groups int[], levels text[], periods timestamptz[], group_ids bigint[], debits text[], credits text[], counts bigint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    moved int;
BEGIN
    IF NOT lease_held(lease, held_epoch) THEN
        RETURN null;
    END IF;
    PERFORM FROM groupings WHERE grouping_id = ANY (folded) AND aggregated_seq = expected ORDER BY grouping_id FOR UPDATE;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(folded) THEN
        RETURN false;
    END IF;
    UPDATE groupings SET aggregated_seq = upto WHERE grouping_id = ANY (folded);
    INSERT INTO tuples SELECT id, canonical, attributes::jsonb
    FROM unnest(new_tuple_ids, new_tuple_canonicals, new_tuple_attributes) AS n (id, canonical, attributes)
    ON CONFLICT DO NOTHING;
    INSERT INTO aggregates AS a
    SELECT t.account_id, t.grouping_id, t.level::"char", t.period, t.group_id, t.debit::numeric, t.credit::numeric, t.events
    FROM unnest(accounts, groups, levels, periods, group_ids, debits, credits, counts)
        AS t (account_id, grouping_id, level, period, group_id, debit, credit, events)
    ON CONFLICT (account_id, grouping_id, level, period, group_id)
    DO UPDATE SET debit = a.debit + excluded.debit, credit = a.credit + excluded.credit,
                  events = a.events + excluded.events;
    RETURN true;
END $$;

-- The sums of an account's events before `at`, as parts: what is aggregated up to `cut_off` (part 'a', by group), the
-- events since (part 's'), and those before it that are not aggregated yet (part 'l', late); the last two by combination
-- of attributes. Stable: everything is seen at one moment, so an event is in exactly one part.
--
-- A grouping that is not there, or lags by more than `most_lag` events, is not used: then all is part 's'.
CREATE FUNCTION account_sums(
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
    IF lag IS NULL OR lag > most_lag THEN
        RETURN QUERY
        SELECT 's'::"char", e.tuple_id, sum(e.debit), sum(e.credit), count(*) FROM events e
        WHERE e.account_id = account AND e.dt < at GROUP BY e.tuple_id;
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
