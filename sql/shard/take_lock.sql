-- Takes a lock, queues for it if `p_waits`, or continues with the row of an earlier call that had the same
-- `p_lock_id` or `p_request_id` (retake_lock). A free lock is granted directly only if the queue is empty.
--
-- - Parameters: `p_attempt` identifies the call; `p_process` is the caller's process; `p_key` is the hash of
--   `p_type` and `p_attributes`.
-- - Result (lock_news): 'granted', 'queued', 'locked', 'ended' or 'other'; also 'won' and 'next' rows for
--   other callers and for the key.
-- - Locks: the key's advisory lock first; rows that a transaction is writing under are not waited for.
-- - Cost: a direct grant also deletes up to four locks that ended more than a day ago.
-- - Planner: sequential scans are disabled in the lock functions, because their plans are cached and may be
--   made while the tables are empty.
CREATE OR REPLACE FUNCTION take_lock(
    p_lock_id uuid, p_attempt uuid, p_process uuid, p_key uuid, p_type text, p_attributes text,
    p_exclusive boolean, p_ttl_ms bigint, p_waits boolean, p_owner text, p_request_id text
) RETURNS SETOF shard.lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    mine shard.locks;
    free boolean;
BEGIN
    PERFORM shard.take_turn(p_key);
    PERFORM shard.end_expired_locks(p_key);
    SELECT l.* INTO mine FROM shard.locks l WHERE l.lock_id = p_lock_id;
    IF mine.lock_id IS NULL AND p_request_id IS NOT NULL THEN
        SELECT l.* INTO mine FROM shard.locks l WHERE l.key = p_key AND l.request_id = p_request_id;
    END IF;
    IF mine.lock_id IS NOT NULL THEN
        IF (mine.exclusive, mine.ttl_ms, mine.owner) IS DISTINCT FROM (p_exclusive, p_ttl_ms, p_owner) THEN
            RETURN NEXT ('other', mine.lock_id, NULL, NULL, NULL, NULL, NULL)::shard.lock_news;
            RETURN;
        END IF;
        RETURN QUERY SELECT * FROM shard.retake_lock(mine, p_attempt, p_process, p_waits);
        RETURN;
    END IF;

    RETURN QUERY SELECT * FROM shard.grant_locks(p_key, p_process);
    free := (shard.next_in_line(p_key)).lock_id IS NULL AND NOT shard.lock_is_held(p_key, p_exclusive);
    IF NOT free AND NOT p_waits THEN
        RETURN QUERY SELECT * FROM shard.lock_holder(p_key);
        RETURN;
    END IF;
    IF NOT free THEN
        PERFORM shard.say_alive(p_process);
    END IF;
    INSERT INTO shard.locks (lock_id, key, type, attributes, exclusive, ttl_ms, owner, request_id, state, process, attempt,
                       heard, token, expires_at)
    VALUES (p_lock_id, p_key, p_type, p_attributes, p_exclusive, p_ttl_ms, p_owner, p_request_id,
            CASE WHEN free THEN 'h' ELSE 'w' END, p_process, p_attempt, free,
            CASE WHEN free THEN nextval('shard.fencing_tokens') END,
            CASE WHEN free THEN clock_timestamp() + interval '1 millisecond' * p_ttl_ms END)
    RETURNING * INTO mine;
    IF NOT free THEN
        RETURN NEXT ('queued', p_lock_id, NULL, NULL, NULL, NULL, NULL)::shard.lock_news;
        RETURN QUERY SELECT * FROM shard.lock_outlook(p_key);
        RETURN;
    END IF;
    RETURN NEXT ('granted', p_lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::shard.lock_news;
    DELETE FROM shard.locks l WHERE l.lock_id IN (
        SELECT o.lock_id FROM shard.locks o WHERE o.expires_at < now() - interval '1 day'
        ORDER BY o.expires_at LIMIT 4 FOR UPDATE SKIP LOCKED
    );
END $$;
