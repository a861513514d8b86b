-- The first id of a second.
CREATE OR REPLACE FUNCTION control.event_id_at(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(extract(epoch FROM at))::bigint << 30
$$;
