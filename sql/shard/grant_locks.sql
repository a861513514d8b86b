-- Grants a key to its next waiters, as many as are compatible. A waiter of `p_process` has its lock
-- immediately ('won' row). A waiter of another process is notified (channel `ledger_locks`, payload: the lock
-- id), and its grant lasts two seconds at most until the caller calls again.
-- The caller holds the key's advisory lock (take_turn).
CREATE OR REPLACE FUNCTION grant_locks(p_key uuid, p_process uuid) RETURNS SETOF shard.lock_news LANGUAGE plpgsql AS $$
DECLARE
    winner shard.locks;
    own boolean;
BEGIN
    LOOP
        winner := shard.next_in_line(p_key);
        EXIT WHEN winner.lock_id IS NULL OR shard.lock_is_held(p_key, winner.exclusive);
        own := winner.process = p_process;
        UPDATE shard.locks l SET state = 'h', token = nextval('shard.fencing_tokens'), heard = own,
            expires_at = clock_timestamp()
                + interval '1 millisecond' * CASE WHEN own THEN l.ttl_ms ELSE least(l.ttl_ms, 2000) END
        WHERE l.lock_id = winner.lock_id AND l.state = 'w'
        RETURNING l.token, l.expires_at INTO winner.token, winner.expires_at;
        -- keep_waiting may have deleted the row just now.
        CONTINUE WHEN NOT FOUND;
        IF own THEN
            RETURN NEXT ('won', winner.lock_id, winner.token, winner.expires_at, NULL, NULL, NULL)::shard.lock_news;
        ELSE
            PERFORM pg_notify('ledger_locks', winner.lock_id::text);
        END IF;
    END LOOP;
END $$;
