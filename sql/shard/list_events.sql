-- A page of an account's events with `since` <= dt < `before`, ordered by (dt, event_id): at most `most`
-- events after (`after_dt`, `after_id`), or from the start if `after_dt` is NULL. `auxiliary` is the
-- canonical attribute set. Locks: the gate, shared (see create_event_months).
CREATE OR REPLACE FUNCTION list_events(
    account bigint, since timestamptz, before timestamptz, after_dt timestamptz, after_id text, most bigint
) RETURNS TABLE (dt timestamptz, event_id text, auxiliary text, debit numeric, credit numeric, info text) STABLE LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('shard.event_months'));
    RETURN QUERY
    SELECT e.dt, e.event_id, t.canonical, e.debit, e.credit, e.info
    FROM (
        SELECT * FROM shard.events
        WHERE account_id = account AND dt >= since AND dt < before
          AND (after_dt IS NULL OR (dt, event_id) > (after_dt, after_id COLLATE "C"))
        ORDER BY dt, event_id LIMIT most
    ) e JOIN shard.tuples t USING (tuple_id) ORDER BY e.dt, e.event_id;
END $$;
