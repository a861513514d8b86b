-- The first in line whose process lives.
CREATE OR REPLACE FUNCTION shard.next_in_line(p_key uuid) RETURNS shard.locks LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    first shard.locks;
BEGIN
    -- A subquery, not a join: the line is read in its order and no further than it must.
    SELECT l.* INTO first FROM shard.locks l
    WHERE l.key = p_key AND l.state = 'w'
        AND (SELECT p.alive_until FROM shard.lock_processes p WHERE p.process = l.process) > moment
    ORDER BY l.place LIMIT 1;
    RETURN first;
END $$;
