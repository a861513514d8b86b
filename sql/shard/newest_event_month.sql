-- The first month of the latest table that has events; null: none has. That it is more than a month later than the newest
-- event, only a clock says.
CREATE OR REPLACE FUNCTION shard.newest_event_month() RETURNS timestamptz LANGUAGE plpgsql AS $$
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
