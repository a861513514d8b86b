-- The smallest event id of the second that contains `at`: an id is the Unix time in seconds, shifted by 30
-- bits, plus a number.
CREATE OR REPLACE FUNCTION event_id_at(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(extract(epoch FROM at))::bigint << 30
$$;
