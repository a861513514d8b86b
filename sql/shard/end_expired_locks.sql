-- Ends the expired locks of a key. A grant that its caller has not received (`heard`) goes back to the queue
-- instead, to be called for again. Locks that a transaction is writing under stay held (SKIP LOCKED).
-- The caller holds the key's advisory lock (take_turn).
CREATE OR REPLACE FUNCTION end_expired_locks(p_key uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    WITH over AS (
        SELECT l.lock_id FROM shard.locks l WHERE l.key = p_key AND l.state = 'h' AND l.expires_at <= moment
        FOR UPDATE SKIP LOCKED
    )
    UPDATE shard.locks l SET state = CASE WHEN l.heard THEN 'e' ELSE 'w' END,
                       token = CASE WHEN l.heard THEN l.token END,
                       expires_at = CASE WHEN l.heard THEN l.expires_at END,
                       process = NULL, left_at = moment
    FROM over WHERE l.lock_id = over.lock_id;
END $$;
