-- Continues with the row `mine` of an earlier call of the same request (see take_lock). Result: 'granted',
-- 'queued', 'ended', or 'locked' if the call does not wait (then it leaves the queue); also 'won' and 'next'
-- rows. The latest of several callers with one request id may give up first: the place stays for the others.
-- The caller holds the key's advisory lock (take_turn).
CREATE OR REPLACE FUNCTION retake_lock(mine shard.locks, p_attempt uuid, p_process uuid, p_waits boolean)
RETURNS SETOF shard.lock_news LANGUAGE plpgsql AS $$
DECLARE
    kept boolean;
BEGIN
    kept := EXISTS (SELECT FROM shard.lock_processes p WHERE p.process = mine.process AND p.alive_until > clock_timestamp());
    IF mine.state = 'w' AND (p_waits OR NOT kept OR mine.attempt = p_attempt) THEN
        PERFORM shard.say_alive(p_process);
        UPDATE shard.locks l SET process = p_process, left_at = NULL, attempt = p_attempt,
                           repeated = l.repeated OR l.attempt <> p_attempt
        WHERE l.lock_id = mine.lock_id;
    END IF;
    RETURN QUERY SELECT * FROM shard.grant_locks(mine.key, p_process);
    SELECT l.* INTO mine FROM shard.locks l WHERE l.lock_id = mine.lock_id;
    IF mine.state = 'w' AND p_waits THEN
        RETURN NEXT ('queued', mine.lock_id, NULL, NULL, NULL, NULL, NULL)::shard.lock_news;
    ELSIF mine.state = 'w' THEN
        -- Gives up. Other callers with the same request id find their place again.
        DELETE FROM shard.locks l WHERE l.lock_id = mine.lock_id AND l.attempt = p_attempt AND NOT l.repeated;
        UPDATE shard.locks l SET process = NULL, left_at = clock_timestamp()
        WHERE l.lock_id = mine.lock_id AND l.attempt = p_attempt;
        RETURN QUERY SELECT * FROM shard.grant_locks(mine.key, p_process);
        RETURN QUERY SELECT * FROM shard.lock_holder(mine.key);
    ELSIF mine.state = 'h' AND mine.expires_at > clock_timestamp() THEN
        UPDATE shard.locks l SET heard = true, attempt = p_attempt, repeated = l.repeated OR l.attempt <> p_attempt,
            expires_at = CASE WHEN l.heard THEN l.expires_at
                              ELSE clock_timestamp() + interval '1 millisecond' * l.ttl_ms END
        WHERE l.lock_id = mine.lock_id AND (NOT l.heard OR l.attempt <> p_attempt);
        RETURN QUERY SELECT 'granted', l.lock_id, l.token, l.expires_at, NULL::text, NULL::boolean, NULL::bigint
                     FROM shard.locks l WHERE l.lock_id = mine.lock_id;
    ELSE
        RETURN NEXT ('ended', mine.lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::shard.lock_news;
    END IF;
    RETURN QUERY SELECT * FROM shard.lock_outlook(mine.key);
END $$;
