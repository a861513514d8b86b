-- As before, but planned once a connection: a function in SQL is planned anew by every statement that calls it.
CREATE OR REPLACE FUNCTION shard.lease_held(lease bigint, held_epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM shard.leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE;
    RETURN FOUND;
END $$;
