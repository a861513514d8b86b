-- The time range of the partition to be created for `month`; the ranges from `firsts` to `uptos` are taken.
--
-- A month within three years of now, or any month unless `may_share`, gets its own partition. For other
-- months the rest of the decade, between the taken ranges, shares one: with one per month a call with events
-- of 1,560 months failed for ever, and beyond about a thousand partitions no more could be attached.
CREATE OR REPLACE FUNCTION planned_event_range(
    month timestamptz, may_share boolean, firsts timestamptz[], uptos timestamptz[], OUT first timestamptz, OUT upto timestamptz
) STABLE LANGUAGE plpgsql AS $$
DECLARE
    present timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    near_first timestamptz := (present - interval '36 months') AT TIME ZONE 'UTC';
    near_upto timestamptz := (present + interval '37 months') AT TIME ZONE 'UTC';
    decade timestamp := make_timestamp(extract(year FROM month AT TIME ZONE 'UTC')::int / 10 * 10, 1, 1, 0, 0, 0);
BEGIN
    first := month;
    upto := shard.month_after(month);
    IF NOT may_share OR (month >= near_first AND month < near_upto) THEN
        RETURN;
    END IF;
    first := greatest(decade AT TIME ZONE 'UTC', (SELECT max(t) FROM unnest(uptos) AS t WHERE t <= month),
                      CASE WHEN month >= near_upto THEN near_upto END);
    upto := least((decade + interval '10 years') AT TIME ZONE 'UTC', (SELECT min(t) FROM unnest(firsts) AS t WHERE t > month),
                  CASE WHEN month < near_first THEN near_first END);
END $$;
