-- Creates the missing weekly partitions (UTC, from Monday) of `events`: the previous week, the current one
-- and `ahead` later ones. Returns the number of partitions created.
--
-- - Locks: advisory lock `event_weeks`; then ACCESS EXCLUSIVE on `events`, with a lock_timeout of 40 ms until
--   the end of the transaction, because readers and writers queue behind the request.
-- - Errors: 55P03 (lock_not_available); the caller tries again later.
CREATE OR REPLACE FUNCTION create_event_weeks(ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    week timestamptz;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('event_weeks', 0));
    PERFORM set_config('lock_timeout', '40ms', true);
    FOR week IN SELECT date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + n * interval '168 hours'
                FROM generate_series(-1, ahead) AS n LOOP
        IF to_regclass('control.events_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NULL THEN
            EXECUTE format('CREATE TABLE control.%I PARTITION OF control.events FOR VALUES FROM (%s) TO (%s)',
                           'events_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD'),
                           control.event_id_at(week), control.event_id_at(week + interval '168 hours'));
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END
$$;
