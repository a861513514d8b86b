-- Ids for events, ascending, and the time of their creation. Whoever does not get the lock at the turn of a second takes ids
-- of the second before, but of none that is long past: an id may be some seconds older than its event's time, never
-- younger unless the clock was put back.
CREATE OR REPLACE FUNCTION control.next_event_ids(wanted int, OUT ids bigint[], OUT at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    turn bigint := hashtextextended('control.event_ids', 0);
    first bigint;
    mine boolean := true;
BEGIN
    at := clock_timestamp();
    first := control.event_id_at(at);
    IF (SELECT last_value FROM control.event_ids) < first THEN
        IF (SELECT last_value FROM control.event_ids) < control.event_id_at(at - interval '60 seconds') THEN
            PERFORM pg_advisory_xact_lock(turn);
        ELSE
            mine := pg_try_advisory_xact_lock(turn);
        END IF;
        IF mine AND (SELECT last_value FROM control.event_ids) < first THEN
            PERFORM setval('control.event_ids', first);
        END IF;
    END IF;
    ids := ARRAY(SELECT nextval('control.event_ids') FROM generate_series(1, wanted));
END
$$;
