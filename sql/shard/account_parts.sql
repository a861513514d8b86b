-- Partial sums of one account before `at` (exclusive), from aggregates and single events.
--
-- - Parameters: the grouping (`wanted_type`, `wanted_attributes`, `wanted_interval`); `year`, `month`, `day`
--   and `cut_off` are the starts of the periods that contain `at`. Aggregates serve up to `cut_off`, single
--   events from there on. `by_tuple`: events are summed by attribute set; otherwise `tuple` is NULL for
--   events.
-- - Result, by `part`: 'a' aggregates (`tuple`: the group's attribute set), 's' single events, 'l' events
--   before `cut_off` that are not aggregated yet (late). If the grouping does not exist, lags by more than
--   `most_lag` events or lacks the sums of dropped events, all is 's': all events of the account and its
--   closing balances.
-- - Locks: the gate, shared (see create_event_months). STABLE: all parts are of the caller's snapshot.
-- - Planner: one generic plan per connection, with nested loops; see write_events.
CREATE OR REPLACE FUNCTION account_parts(
    account bigint, wanted_type text, wanted_attributes text, wanted_interval text,
    year timestamptz, month timestamptz, day timestamptz, cut_off timestamptz, at timestamptz, most_lag bigint,
    by_tuple boolean
) RETURNS TABLE (part "char", tuple bigint, debit numeric, credit numeric, events bigint) STABLE LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    g shard.groupings;
    lag bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('shard.event_months'));
    SELECT * INTO g FROM shard.groupings
    WHERE type = wanted_type AND attributes = wanted_attributes AND interval = wanted_interval;
    IF FOUND THEN
        lag := (SELECT last_seq FROM shard.sequence) - g.aggregated_seq
            + coalesce((SELECT sum(b.events) FROM shard.pending_batches b WHERE b.first_dt < cut_off), 0);
    END IF;
    -- A new grouping lacks the sums of dropped events.
    IF g.aggregated_seq = 0 AND EXISTS (SELECT FROM shard.closing_balances c WHERE c.account_id = account) THEN
        lag := NULL;
    END IF;
    IF lag IS NULL OR lag > most_lag THEN
        RETURN QUERY
        SELECT 's'::"char", CASE WHEN by_tuple THEN e.tuple_id END, sum(e.debit), sum(e.credit), count(*) FROM shard.events e
        WHERE e.account_id = account AND e.dt < at GROUP BY 2;
        RETURN QUERY
        SELECT 's'::"char", c.tuple_id, c.debit, c.credit, c.events FROM shard.closing_balances c WHERE c.account_id = account;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'a'::"char", p.group_id, sum(p.debit), sum(p.credit), sum(p.events)::bigint FROM (
        SELECT a.group_id, a.debit, a.credit, a.events FROM shard.aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'y' AND a.period < year
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM shard.aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'm'
          AND a.period >= year AND a.period < month
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM shard.aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'd'
          AND a.period >= month AND a.period < day
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM shard.aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'h'
          AND a.period >= day AND a.period < cut_off
    ) p GROUP BY p.group_id;
    RETURN QUERY
    SELECT 's'::"char", CASE WHEN by_tuple THEN e.tuple_id END, sum(e.debit), sum(e.credit), count(*) FROM shard.events e
    WHERE e.account_id = account AND e.dt >= cut_off AND e.dt < at GROUP BY 2;
    IF lag = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'l'::"char", CASE WHEN by_tuple THEN e.tuple_id END, sum(e.debit), sum(e.credit), count(*)
    FROM (SELECT batch_id, first_dt, last_dt FROM shard.pending_batches WHERE first_dt < cut_off
          UNION ALL
          SELECT batch_id, first_dt, last_dt FROM shard.batches WHERE first_seq > g.aggregated_seq AND first_dt < cut_off) b
    CROSS JOIN LATERAL (
        SELECT * FROM shard.events x
        WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt AND x.dt < cut_off AND x.account_id = account
    ) e GROUP BY 2;
END $$;
