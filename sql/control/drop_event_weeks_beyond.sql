-- Drops the weeks that are older than the retention: by the clock, but by no more than a month after the newest event. A clock
-- that is set ahead for a moment must not make everything old.
CREATE OR REPLACE FUNCTION control.drop_event_weeks_beyond(retention interval) RETURNS TABLE (week text) LANGUAGE plpgsql AS $$
DECLARE
    -- Looked up before: what a statement still reads it cannot drop.
    newest timestamptz := (SELECT to_timestamp(max(event_id) >> 30) FROM control.events);
BEGIN
    RETURN QUERY SELECT d.week FROM control.drop_event_weeks(least(now(), newest + interval '1 month') - retention) d;
END
$$;
