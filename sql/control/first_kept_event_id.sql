-- The least id that an event can have that is still there: the beginning of the first week. Null: there is no week.
CREATE OR REPLACE FUNCTION control.first_kept_event_id() RETURNS bigint STABLE LANGUAGE sql AS $$
    SELECT control.event_id_at(to_timestamp(right(min(c.relname), 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'control.events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
$$;
