-- Ends a lock and grants to the next waiters. `p_attempt` is stored, so that a repeated call succeeds as
-- well.
-- Result: 'released', 'ended' (before this call), 'unknown', or 'busy' if a transaction is writing under the
-- lock; except for the last two, also 'won' and 'next' rows of the key.
-- Locks: the key's advisory lock first; the lock's row is not waited for. Planner: see take_lock.
CREATE OR REPLACE FUNCTION release_lock(p_lock_id uuid, p_attempt uuid, p_process uuid)
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
    ELSIF mine.state = 'h' AND mine.expires_at > clock_timestamp() THEN
        PERFORM 1 FROM shard.locks l WHERE l.lock_id = p_lock_id FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NEXT ('busy', p_lock_id, NULL, NULL, NULL, NULL, NULL)::shard.lock_news;
            RETURN;
        END IF;
        UPDATE shard.locks l SET state = 'e', attempt = p_attempt, expires_at = least(l.expires_at, clock_timestamp())
        WHERE l.lock_id = p_lock_id;
        mine.attempt := p_attempt;
    END IF;
    RETURN NEXT (CASE WHEN mine.attempt = p_attempt THEN 'released' ELSE 'ended' END,
                 p_lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::shard.lock_news;
    RETURN QUERY SELECT * FROM shard.grant_locks(mine.key, p_process);
    RETURN QUERY SELECT * FROM shard.lock_outlook(mine.key);
END $$;
