-- Whether what is held of a key stands against one more.
CREATE OR REPLACE FUNCTION shard.lock_is_held(p_key uuid, p_exclusive boolean) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    held boolean;
BEGIN
    -- One row tells: an exclusive one would be the only one.
    SELECT l.exclusive INTO held FROM shard.locks l WHERE l.key = p_key AND l.state = 'h' LIMIT 1;
    RETURN FOUND AND (held OR p_exclusive);
END $$;
