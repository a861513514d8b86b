-- Events of far times share tables. A month each made a call with events of 1,560 months fail for ever, and of more than
-- about a thousand tables none could be attached at all. Within three years of now every month has its own table, as before;
-- so do other months while there are not many. What is left of a decade then shares one, between those that are there.

-- The tables of events: their times, `upto` exclusive. One of a month is named after it (events_2024_02), a shared one after
-- its first and last month (events_1970_01_to_1979_12).
CREATE OR REPLACE FUNCTION shard.event_ranges() RETURNS TABLE (partition text, first timestamptz, upto timestamptz) STABLE LANGUAGE sql AS $$
    SELECT n.name, make_timestamptz(n.part[1]::int, n.part[2]::int, 1, 0, 0, 0, 'UTC'),
           shard.month_after(make_timestamptz(coalesce(n.part[3], n.part[1])::int, coalesce(n.part[4], n.part[2])::int, 1, 0, 0, 0, 'UTC'))
    FROM (
        SELECT c.relname AS name,
               regexp_match(c.relname, '^events_([0-9]{4})_([0-9]{2})(?:_to_([0-9]{4})_([0-9]{2}))?$') AS part
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'shard.events'::regclass
    ) n WHERE n.part IS NOT NULL
    ORDER BY 2
$$;
