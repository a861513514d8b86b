-- Drops the weekly partitions of `events` that are older than the week of `before` (UTC); returns their
-- names. The rows of `event_keys` are deleted afterwards, in small transactions: deleting millions of them
-- here would extend the ACCESS EXCLUSIVE lock on `events`. Locks and errors are those of create_event_weeks.
CREATE OR REPLACE FUNCTION drop_event_weeks(before timestamptz) RETURNS TABLE (week text) LANGUAGE plpgsql AS $$
DECLARE
    horizon bigint := control.event_id_at(date_trunc('week', before AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('event_weeks', 0));
    PERFORM set_config('lock_timeout', '40ms', true);
    FOR week IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'control.events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
                  AND control.event_id_at(to_timestamp(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC') < horizon
                ORDER BY c.relname LOOP
        EXECUTE format('DROP TABLE control.%I', week);
        RETURN NEXT;
    END LOOP;
END
$$;
