-- Ends what has expired, in the key's turn. A grant that nobody heard of goes back in line, to be asked for again.
CREATE OR REPLACE FUNCTION shard.end_expired_locks(p_key uuid) RETURNS void LANGUAGE plpgsql AS $$
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
