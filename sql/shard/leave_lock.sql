-- Removes a cancelled call from the key's queue and takes back its grant, unless another call of the same
-- request may have received it. A request with a request id keeps its place for a minute or more, without a
-- caller.
-- Result: 'won' and 'next' rows.
-- Locks: the key's advisory lock first. Planner: see take_lock.
CREATE OR REPLACE FUNCTION leave_lock(p_lock_id uuid, p_attempt uuid, p_process uuid, p_key uuid)
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
