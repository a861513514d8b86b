-- Drops the weekly partitions that are older than `retention`; returns their names. Locks and errors are
-- those of create_event_weeks. The age is counted from the clock, but from one month after the newest event
-- at most: a clock that is set ahead for a moment must not expire everything.
CREATE OR REPLACE FUNCTION drop_event_weeks_beyond(retention interval) RETURNS TABLE (week text) LANGUAGE plpgsql AS $$
DECLARE
    -- A separate statement: a table cannot be dropped while the calling query reads it.
    newest timestamptz := (SELECT to_timestamp(max(event_id) >> 30) FROM control.events);
BEGIN
    RETURN QUERY SELECT d.week FROM control.drop_event_weeks(least(now(), newest + interval '1 month') - retention) d;
END
$$;
