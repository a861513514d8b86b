-- The partition of `events` that contains `month`, with its time range (see event_ranges); NULLs if there is
-- none.
CREATE OR REPLACE FUNCTION event_range(month timestamptz, OUT partition text, OUT first timestamptz, OUT upto timestamptz)
STABLE LANGUAGE sql AS $$
    SELECT r.partition, r.first, r.upto FROM shard.event_ranges() r WHERE r.first <= month AND month < r.upto
$$;
