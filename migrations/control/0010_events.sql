-- Events: a name and params, and, of those that a task has caused, which one. In one partition for each week (of the id's
-- own time). An id is the second of its creation (31 bits), then a number: ids are given by one sequence that is moved on
-- each second, so they ascend whatever any clock does, and a time is a range of ids.
CREATE TABLE events (
    event_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    params jsonb NOT NULL CHECK (jsonb_typeof(params) = 'object'),
    author text COLLATE "C" NOT NULL,
    time_created timestamptz NOT NULL,
    -- The version of the action configs that it was matched against.
    config_version bigint NOT NULL,
    -- The task that caused it.
    task_id bigint,
    -- How many tasks and events are before it in its chain.
    depth smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_id)
) PARTITION BY RANGE (event_id);
-- Serves listings by name, newest or oldest first.
CREATE INDEX events_by_name ON events (name, event_id);
-- Serves stories: what a task has caused.
CREATE INDEX events_by_task ON events (task_id, event_id) WHERE task_id IS NOT NULL;

-- One event for a key, whoever sends it and however often. Keys that begin with U+0001 are the platform's own.
CREATE TABLE event_keys (
    event_key text COLLATE "C" PRIMARY KEY,
    event_id bigint NOT NULL,
    -- SHA-256 of name and params, in one fixed form.
    content bytea NOT NULL
);
-- Serves forgetting keys with their events: they are in the order of their ids, more or less.
CREATE INDEX event_keys_by_event ON event_keys USING brin (event_id);

CREATE SEQUENCE event_ids AS bigint;

-- The first id of a second.
CREATE FUNCTION event_id_at(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(extract(epoch FROM at))::bigint << 30
$$;

-- Ids for events, ascending, and the time of their creation. Whoever does not get the lock at the turn of a second takes ids
-- of the second before, but of none that is long past: an id may be some seconds older than its event's time, never
-- younger unless the clock was put back.
CREATE FUNCTION next_event_ids(wanted int, OUT ids bigint[], OUT at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    turn bigint := hashtextextended('event_ids', 0);
    first bigint;
    mine boolean := true;
BEGIN
    at := clock_timestamp();
    first := event_id_at(at);
    IF (SELECT last_value FROM event_ids) < first THEN
        IF (SELECT last_value FROM event_ids) < event_id_at(at - interval '60 seconds') THEN
            PERFORM pg_advisory_xact_lock(turn);
        ELSE
            mine := pg_try_advisory_xact_lock(turn);
        END IF;
        IF mine AND (SELECT last_value FROM event_ids) < first THEN
            PERFORM setval('event_ids', first);
        END IF;
    END IF;
    ids := ARRAY(SELECT nextval('event_ids') FROM generate_series(1, wanted));
END
$$;

-- Makes the partitions of this week, the one before, and `ahead` weeks to come.
CREATE FUNCTION create_event_weeks(ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    week timestamptz;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('event_weeks', 0));
    FOR week IN SELECT date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + n * interval '168 hours'
                FROM generate_series(-1, ahead) AS n LOOP
        IF to_regclass('events_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%s) TO (%s)',
                           'events_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD'),
                           event_id_at(week), event_id_at(week + interval '168 hours'));
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the weeks that ended before `before`, and the keys of their events; answers the first id that is kept.
CREATE FUNCTION drop_event_weeks(before timestamptz) RETURNS TABLE (week text) LANGUAGE plpgsql AS $$
DECLARE
    horizon bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('event_weeks', 0));
    SET LOCAL lock_timeout = '100ms';
    horizon := event_id_at(date_trunc('week', before AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
    FOR week IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'events'::regclass AND c.relname < 'events_' || to_char(before AT TIME ZONE 'UTC', 'YYYYMMDD')
                  AND event_id_at(to_timestamp(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC') < horizon
                ORDER BY c.relname LOOP
        EXECUTE format('DROP TABLE %I', week);
        RETURN NEXT;
    END LOOP;
    DELETE FROM event_keys WHERE event_id < horizon;
END
$$;

SELECT create_event_weeks(4);
