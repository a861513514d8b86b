-- Sums of an account by groups of attributes: events before `at` (balance), less those before `since_at`
-- (turnover) unless that is NULL. For the other parameters see account_parts.
--
-- - Parameters: `filter`, an object of required attribute values ('{}': none); `group_by`, attribute names.
-- - Result: a row for each group with events. `attributes` are the values of `group_by` in its order, NULL
--   where absent; amounts are decimals without trailing zeros. The last row has only `horizon` and `drops`,
--   read by a later statement: they tell the reader whether events were dropped during the read. VOLATILE for
--   that reason.
-- - Both sums are of one snapshot. One round trip. Locks: the gate, shared (see create_event_months).
-- - Planner: one generic plan per connection, with index lookups and nested loops; see write_events.
CREATE OR REPLACE FUNCTION account_totals(
    account bigint, wanted_type text, wanted_attributes text, wanted_interval text,
    year timestamptz, month timestamptz, day timestamptz, cut_off timestamptz, at timestamptz, most_lag bigint,
    since_year timestamptz, since_month timestamptz, since_day timestamptz, since_cut_off timestamptz, since_at timestamptz,
    filter jsonb, group_by text[]
) RETURNS TABLE (attributes text[], debit text, credit text, balance text, horizon timestamptz, drops bigint)
VOLATILE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH parts AS (
        SELECT 1 AS sign, p.* FROM shard.account_parts(
            account, wanted_type, wanted_attributes, wanted_interval, year, month, day, cut_off, at, most_lag,
            wanted_attributes <> ''
        ) p
        UNION ALL
        SELECT -1, p.* FROM shard.account_parts(
            account, wanted_type, wanted_attributes, wanted_interval,
            since_year, since_month, since_day, since_cut_off, since_at, most_lag, wanted_attributes <> ''
        ) p WHERE since_at IS NOT NULL
    )
    SELECT (SELECT coalesce(array_agg(t.attributes ->> g.name ORDER BY g.place), '{}')
            FROM unnest(group_by) WITH ORDINALITY AS g (name, place)),
           trim_scale(coalesce(sum(p.sign * p.debit), 0))::text,
           trim_scale(coalesce(sum(p.sign * p.credit), 0))::text,
           trim_scale(coalesce(sum(p.sign * p.debit), 0) - coalesce(sum(p.sign * p.credit), 0))::text,
           null::timestamptz, null::bigint
    FROM parts p LEFT JOIN shard.tuples t ON t.tuple_id = p.tuple
    WHERE filter = '{}' OR t.attributes @> filter
    GROUP BY 1 HAVING sum(p.sign * p.events) > 0;
    RETURN QUERY SELECT null::text[], null, null, null, h.horizon, h.drops FROM shard.horizon h;
END $$;
