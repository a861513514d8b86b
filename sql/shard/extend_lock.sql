-- Sets the expiry of a live lock to `p_ttl_ms` from now.
-- Result: 'granted' (with the new expiry), 'ended' or 'unknown'; except for the last, also 'won' and 'next'
-- rows of the key.
-- Locks: the key's advisory lock first. Planner: see take_lock.
CREATE OR REPLACE FUNCTION extend_lock(p_lock_id uuid, p_ttl_ms bigint, p_process uuid)
RETURNS SETOF shard.lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    mine shard.locks;
BEGIN
    SELECT l.* INTO mine FROM shard.locks l WHERE l.lock_id = p_lock_id;
    PERFORM shard.take_turn(mine.key);
    PERFORM shard.end_expired_locks(mine.key);
    SELECT l.* INTO mine FROM shard.locks l WHERE l.lock_id = p_lock_id AND l.state <> 'w';
    IF NOT FOUND THEN
        RETURN NEXT ('unknown', p_lock_id, NULL, NULL, NULL, NULL, NULL)::shard.lock_news;
        RETURN;
    END IF;
    UPDATE shard.locks l SET expires_at = clock_timestamp() + interval '1 millisecond' * p_ttl_ms
    WHERE l.lock_id = p_lock_id AND l.state = 'h' AND l.expires_at > clock_timestamp()
    RETURNING l.expires_at INTO mine.expires_at;
    RETURN NEXT (CASE WHEN FOUND THEN 'granted' ELSE 'ended' END,
                 p_lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::shard.lock_news;
    RETURN QUERY SELECT * FROM shard.grant_locks(mine.key, p_process);
    RETURN QUERY SELECT * FROM shard.lock_outlook(mine.key);
END $$;
