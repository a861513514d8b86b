-- The smallest id that a stored event can have: the start of the oldest weekly partition. NULL without
-- partitions.
CREATE OR REPLACE FUNCTION first_kept_event_id() RETURNS bigint STABLE LANGUAGE sql AS $$
    SELECT control.event_id_at(to_timestamp(right(min(c.relname), 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'control.events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
$$;
