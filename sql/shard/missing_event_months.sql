-- Whoever looks which months there are, and whoever attaches one, keep out of each other's way. A connection notes the
-- partitions of events when it first touches them, and again when it is told that they have changed; what Postgres (15.18)
-- tells it while it notes them down is forgotten. A month that was attached in those microseconds was missing from all that
-- this connection read from then on, and not to be found for what it wrote, for as long as it lived or until the next month
-- came: from balances for a while, from aggregates for ever.
--
-- So there is a gate, an advisory lock. Who reads events or writes them holds it, shared, from before touching them to the
-- end of the transaction; who attaches a month holds it alone, until every connection has been told. (Locking the table
-- instead would let a month wait for every dump and every check.) And who attaches a month writes no events into it in the
-- same transaction: they would be seen a moment before the others are told.

-- Those of `months` that have no partitions.
CREATE OR REPLACE FUNCTION shard.missing_event_months(months timestamptz[]) RETURNS timestamptz[] STABLE LANGUAGE sql AS $$
    SELECT coalesce(array_agg(m.month ORDER BY m.month), '{}') FROM (SELECT DISTINCT unnest(months) AS month) m
    WHERE NOT EXISTS (SELECT FROM shard.event_ranges() r WHERE r.first <= m.month AND m.month < r.upto)
$$;
