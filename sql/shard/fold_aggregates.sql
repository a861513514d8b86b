-- Adds sums to the aggregates of the groupings `folded` and moves their watermark from `expected` to `upto`.
-- The compare-and-set of the watermark makes each event count exactly once, however often the call is
-- repeated.
--
-- - Parameters: new attribute sets, then parallel arrays of aggregate rows; `levels` 'y', 'm', 'd', 'h';
--   amounts are decimals.
-- - Result: true; false, without a change, if a watermark is not at `expected`; NULL if the lease is lost.
-- - Locks: the lease row (FOR SHARE), groupings by id, attribute sets by id, aggregates by key (sorted by the
--   caller).
CREATE OR REPLACE FUNCTION fold_aggregates(
    lease bigint, held_epoch bigint, folded int[], expected bigint, upto bigint,
    new_tuple_ids bigint[], new_tuple_canonicals text[], new_tuple_attributes text[],
    accounts bigint[], groups int[], levels text[], periods timestamptz[], group_ids bigint[], debits text[], credits text[], counts bigint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    moved int;
BEGIN
    IF NOT shard.lease_held(lease, held_epoch) THEN
        RETURN null;
    END IF;
    PERFORM FROM shard.groupings WHERE grouping_id = ANY (folded) AND aggregated_seq = expected ORDER BY grouping_id FOR UPDATE;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(folded) THEN
        RETURN false;
    END IF;
    UPDATE shard.groupings SET aggregated_seq = upto WHERE grouping_id = ANY (folded);
    INSERT INTO shard.tuples SELECT id, canonical, attributes::jsonb
    FROM unnest(new_tuple_ids, new_tuple_canonicals, new_tuple_attributes) AS n (id, canonical, attributes)
    ON CONFLICT DO NOTHING;
    INSERT INTO shard.aggregates AS a
    SELECT t.account_id, t.grouping_id, t.level::"char", t.period, t.group_id, t.debit::numeric, t.credit::numeric, t.events
    FROM unnest(accounts, groups, levels, periods, group_ids, debits, credits, counts)
        AS t (account_id, grouping_id, level, period, group_id, debit, credit, events)
    ON CONFLICT (account_id, grouping_id, level, period, group_id)
    DO UPDATE SET debit = a.debit + excluded.debit, credit = a.credit + excluded.credit,
                  events = a.events + excluded.events;
    RETURN true;
END $$;
