-- What grows is shrunk in small steps, none of which lets anybody wait.

-- As before, but never waits long for who reads or writes events, while others wait behind it.
CREATE OR REPLACE FUNCTION create_event_weeks(ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    week timestamptz;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('event_weeks', 0));
    PERFORM set_config('lock_timeout', '40ms', true);
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

-- Drops the weeks that ended before `before`. The keys of their events are forgotten afterwards, a few at a time: to delete
-- millions of them here would keep everybody from events for as long as that takes.
CREATE OR REPLACE FUNCTION drop_event_weeks(before timestamptz) RETURNS TABLE (week text) LANGUAGE plpgsql AS $$
DECLARE
    horizon bigint := event_id_at(date_trunc('week', before AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('event_weeks', 0));
    PERFORM set_config('lock_timeout', '40ms', true);
    FOR week IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
                  AND event_id_at(to_timestamp(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC') < horizon
                ORDER BY c.relname LOOP
        EXECUTE format('DROP TABLE %I', week);
        RETURN NEXT;
    END LOOP;
END
$$;

-- Drops the weeks that are older than the retention: by the clock, but by no more than a month after the newest event. A clock
-- that is set ahead for a moment must not make everything old.
CREATE FUNCTION drop_event_weeks_beyond(retention interval) RETURNS TABLE (week text) LANGUAGE plpgsql AS $$
DECLARE
    -- Looked up before: what a statement still reads it cannot drop.
    newest timestamptz := (SELECT to_timestamp(max(event_id) >> 30) FROM events);
BEGIN
    RETURN QUERY SELECT d.week FROM drop_event_weeks(least(now(), newest + interval '1 month') - retention) d;
END
$$;

-- The least id that an event can have that is still there: the beginning of the first week. Null: there is no week.
CREATE FUNCTION first_kept_event_id() RETURNS bigint STABLE LANGUAGE sql AS $$
    SELECT event_id_at(to_timestamp(right(min(c.relname), 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
$$;

-- Deletes messages that have been dead letters for so long, at most about `most`, the oldest of their groups first; how
-- many. Waits for nobody: a group that somebody is just changing is left for the next time.
CREATE FUNCTION fifo_forget_dead_letters(older_than interval, most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    dead fifo_queues;
    its_group text;
    gone int;
    forgotten int := 0;
BEGIN
    FOR dead IN SELECT * FROM fifo_queues q
                WHERE q.queue_id IN (SELECT dead_letters FROM fifo_queues) OR q.name LIKE '%-dead.fifo' LOOP
        FOR its_group IN
            SELECT n.group_id FROM fifo_messages n
            WHERE n.queue_id = dead.queue_id AND n.head AND n.visible_at < now() - older_than
            ORDER BY n.visible_at LIMIT most
        LOOP
            EXIT WHEN forgotten >= most;
            CONTINUE WHEN NOT pg_try_advisory_xact_lock(fifo_turn(dead.queue_id, its_group));
            DELETE FROM fifo_messages m WHERE m.sequence IN (
                SELECT n.sequence FROM fifo_messages n
                WHERE n.queue_id = dead.queue_id AND n.group_id = its_group AND n.visible_at < now() - older_than
                ORDER BY n.sequence LIMIT most FOR UPDATE SKIP LOCKED
            );
            GET DIAGNOSTICS gone = ROW_COUNT;
            forgotten := forgotten + gone;
            IF gone > 0 THEN
                PERFORM fifo_promote(dead, its_group);
            END IF;
        END LOOP;
    END LOOP;
    RETURN forgotten;
END $$;
