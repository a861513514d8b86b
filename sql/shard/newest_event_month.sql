-- The first month of the latest partition that has events; NULL if none has. It bounds the clock for
-- retention: that more than a month has passed since then is known from the clock only, which may be wrong.
CREATE OR REPLACE FUNCTION newest_event_month() RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    range record;
    has_events boolean;
BEGIN
    FOR range IN SELECT * FROM shard.event_ranges() r ORDER BY r.first DESC LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM shard.%I)', range.partition) INTO has_events;
        IF has_events THEN
            RETURN range.first;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
