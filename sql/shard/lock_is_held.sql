-- Whether the held locks of a key conflict with a further lock. An expired lock counts until it is ended.
CREATE OR REPLACE FUNCTION lock_is_held(p_key uuid, p_exclusive boolean) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    held boolean;
BEGIN
    -- One row suffices: an exclusive holder is the only one.
    SELECT l.exclusive INTO held FROM shard.locks l WHERE l.key = p_key AND l.state = 'h' LIMIT 1;
    RETURN FOUND AND (held OR p_exclusive);
END $$;
