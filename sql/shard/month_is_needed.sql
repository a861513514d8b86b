-- Why a month cannot be dropped yet (`why`; NULL: it can), and the number up to which all groupings are
-- aggregated (`aggregated`; NULL if the month has events without numbers). The arrays are the configured
-- groupings, as in `groupings`. If a grouping is below `least_aggregated`, it is new, and its events are not
-- checked.
CREATE OR REPLACE FUNCTION month_is_needed(
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
