-- The first waiter of a key whose process is alive, or NULLs.
CREATE OR REPLACE FUNCTION next_in_line(p_key uuid) RETURNS shard.locks LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    first shard.locks;
BEGIN
    -- A subquery instead of a join: the queue is read in index order, up to the first match.
    SELECT l.* INTO first FROM shard.locks l
    WHERE l.key = p_key AND l.state = 'w'
        AND (SELECT p.alive_until FROM shard.lock_processes p WHERE p.process = l.process) > moment
    ORDER BY l.place LIMIT 1;
    RETURN first;
END $$;
