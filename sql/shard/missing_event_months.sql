-- Those of `months` (starts of months, UTC) that no partition of `events` contains, sorted; empty if none.
CREATE OR REPLACE FUNCTION missing_event_months(months timestamptz[]) RETURNS timestamptz[] STABLE LANGUAGE sql AS $$
    SELECT coalesce(array_agg(m.month ORDER BY m.month), '{}') FROM (SELECT DISTINCT unnest(months) AS month) m
    WHERE NOT EXISTS (SELECT FROM shard.event_ranges() r WHERE r.first <= m.month AND m.month < r.upto)
$$;
