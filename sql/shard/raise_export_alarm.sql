-- Records why the export is stopped; `alarm_since` keeps its first value. Returns true; NULL, without a
-- change, if the lease is lost; false if the export's epoch is not `export_epoch`.
-- Locks: the lease row (FOR SHARE), then the row of `export`.
CREATE OR REPLACE FUNCTION raise_export_alarm(lease bigint, held_epoch bigint, export_epoch bigint, why text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT shard.lease_held(lease, held_epoch) THEN
        RETURN NULL;
    END IF;
    UPDATE shard.export SET alarm = why, alarm_since = coalesce(alarm_since, now()) WHERE epoch = export_epoch;
    RETURN FOUND;
END $$;
