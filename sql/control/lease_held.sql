-- Whether (`lease`, `held_epoch`) is the current grant of the lease. Locks the row FOR SHARE until the end of
-- the transaction: the lease cannot be taken over (nor renewed) between this check and the commit. The expiry
-- is not checked: a lease that has expired but was not taken over still excludes others.
-- plpgsql, because an SQL function is planned again by every statement that calls it.
CREATE OR REPLACE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM control.leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE;
    RETURN FOUND;
END $$;
