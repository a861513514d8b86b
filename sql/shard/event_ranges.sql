-- The partitions of `events` and their time ranges (`upto` exclusive), in time order, derived from their
-- names: a single month is `events_2024_02`, a shared partition has its first and last month,
-- `events_1970_01_to_1979_12`.
CREATE OR REPLACE FUNCTION event_ranges() RETURNS TABLE (partition text, first timestamptz, upto timestamptz) STABLE LANGUAGE sql AS $$
    SELECT n.name, make_timestamptz(n.part[1]::int, n.part[2]::int, 1, 0, 0, 0, 'UTC'),
           shard.month_after(make_timestamptz(coalesce(n.part[3], n.part[1])::int, coalesce(n.part[4], n.part[2])::int, 1, 0, 0, 0, 'UTC'))
    FROM (
        SELECT c.relname AS name,
               regexp_match(c.relname, '^events_([0-9]{4})_([0-9]{2})(?:_to_([0-9]{4})_([0-9]{2}))?$') AS part
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'shard.events'::regclass
    ) n WHERE n.part IS NOT NULL
    ORDER BY 2
$$;
