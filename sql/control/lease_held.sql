-- Enqueueing as a function: planned once per connection, and jobs that depend on no other job apart from the careful case.

-- As before, but planned once a connection: a function in SQL is planned anew by every statement that calls it.
-- Whether (lease, epoch) is still the current holder. Locks the row until the caller's transaction ends, so that
-- nobody takes the lease over between this check and the caller's commit. The expiry is not looked at: a lease
-- that ran out but was not taken over still excludes everybody else.
CREATE OR REPLACE FUNCTION control.lease_held(lease bigint, held_epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM control.leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE;
    RETURN FOUND;
END $$;
