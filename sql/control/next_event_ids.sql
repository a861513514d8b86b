-- Allocates `wanted` ascending event ids; `at` is the creation time that goes with them. A rollback does not
-- give ids back.
--
-- Once per second one caller advances the sequence to the first id of the second, under an advisory lock that
-- it keeps until its commit. A caller that does not get the lock immediately takes ids of the earlier second,
-- or waits if that is more than 60 seconds ago. So the second in an id may be some seconds before `at`, and
-- is never after it unless the clock was set back.
CREATE OR REPLACE FUNCTION next_event_ids(wanted int, OUT ids bigint[], OUT at timestamptz) LANGUAGE plpgsql AS $$
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
