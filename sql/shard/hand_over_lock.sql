-- Ends the expired locks of a key and grants to the next waiters. Result: 'won' and 'next' rows.
-- Locks: the key's advisory lock first. Planner: see take_lock.
CREATE OR REPLACE FUNCTION hand_over_lock(p_key uuid, p_process uuid)
RETURNS SETOF shard.lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM shard.take_turn(p_key);
    PERFORM shard.end_expired_locks(p_key);
    RETURN QUERY SELECT * FROM shard.grant_locks(p_key, p_process);
    RETURN QUERY SELECT * FROM shard.lock_outlook(p_key);
END $$;
