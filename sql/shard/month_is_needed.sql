-- Why a month cannot be dropped, or null: it can; and up to which number all groupings are aggregated. The arrays are the
-- groupings that are kept, as in `groupings`. Of a grouping that stands below `least_aggregated` nothing is looked at.
CREATE OR REPLACE FUNCTION shard.month_is_needed(
    month timestamptz, types text[], attribute_lists text[], intervals text[], least_aggregated bigint,
    OUT why text, OUT aggregated bigint
) LANGUAGE plpgsql AS $$
DECLARE
    exported bigint;
BEGIN
    IF shard.month_has_unnumbered(month) THEN
        why := 'it has events without numbers';
        RETURN;
    END IF;
    SELECT coalesce(least(min(coalesce(g.aggregated_seq, 0)), (SELECT min(aggregated_seq) FROM shard.groupings)), 0)
    INTO aggregated
    FROM unnest(types, attribute_lists, intervals) AS w (type, attributes, interval)
    LEFT JOIN shard.groupings g USING (type, attributes, interval)
    WHERE EXISTS (SELECT FROM shard.accounts a WHERE a.type = w.type);
    IF aggregated < least_aggregated THEN
        why := 'a grouping is new';
    ELSIF shard.month_goes_on(month, aggregated) THEN
        why := format('it has events that are not aggregated (up to %s)', aggregated);
    END IF;
    IF why IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT e.exported_seq INTO exported FROM shard.export e;
    IF shard.month_goes_on(month, exported) THEN
        why := format('it has events that are not exported (up to %s)', exported);
    END IF;
END $$;
