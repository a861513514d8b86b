-- The caller of an attempt is gone: it leaves the line, and a grant that it never heard of is taken back. If it named
-- its request its place is kept for a while, without anybody waiting for it.
CREATE OR REPLACE FUNCTION shard.leave_lock(p_lock_id uuid, p_attempt uuid, p_process uuid, p_key uuid)
RETURNS SETOF shard.lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM shard.take_turn(p_key);
    PERFORM shard.end_expired_locks(p_key);
    DELETE FROM shard.locks l WHERE l.lock_id = p_lock_id AND l.attempt = p_attempt AND l.request_id IS NULL
        AND l.state <> 'e';
    UPDATE shard.locks l SET state = 'w', token = NULL, expires_at = NULL, heard = false, process = NULL,
                       left_at = clock_timestamp()
    WHERE l.lock_id = p_lock_id AND l.attempt = p_attempt AND (l.state = 'w' OR l.state = 'h' AND NOT l.repeated);
    RETURN QUERY SELECT * FROM shard.grant_locks(p_key, p_process);
    RETURN QUERY SELECT * FROM shard.lock_outlook(p_key);
END $$;
