-- When the key needs the next hand-over, as a 'next' row: `wait_ms` until the earliest expiry, or 0 if the
-- first waiter could have the lock now. No row if there is no waiter.
CREATE OR REPLACE FUNCTION lock_outlook(p_key uuid) RETURNS SETOF shard.lock_news LANGUAGE plpgsql AS $$
DECLARE
    first shard.locks := shard.next_in_line(p_key);
    next_expiry timestamptz;
    wait_ms bigint := 0;
BEGIN
    IF first.lock_id IS NULL THEN
        RETURN;
    END IF;
    IF shard.lock_is_held(p_key, first.exclusive) THEN
        SELECT l.expires_at INTO next_expiry FROM shard.locks l WHERE l.key = p_key AND l.state = 'h'
        ORDER BY l.expires_at LIMIT 1;
        wait_ms := greatest(0, ceil(1000 * extract(epoch FROM next_expiry - clock_timestamp())));
    END IF;
    RETURN NEXT ('next', p_key, NULL, NULL, NULL, NULL, wait_ms)::shard.lock_news;
END $$;
