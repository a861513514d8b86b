-- What this database needs of a program: `min_compatible` is the lowest schema version a program may know.
CREATE TABLE schema_compatibility (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    min_compatible bigint NOT NULL
);
INSERT INTO schema_compatibility (min_compatible) VALUES (1);

-- Leases with fencing: a holder proves itself by (lease_id, epoch); every change of owner raises the epoch.
CREATE TABLE leases (
    lease_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    class text NOT NULL,
    name text NOT NULL,
    owner uuid NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    -- One holder per thing, whatever the programs believe.
    UNIQUE (class, name)
);

-- Whether (lease, epoch) is still the current holder. Locks the row until the caller's transaction ends, so that
-- nobody takes the lease over between this check and the caller's commit. The expiry is not looked at: a lease
-- that ran out but was not taken over still excludes everybody else.
CREATE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (SELECT FROM leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE)
$$;
