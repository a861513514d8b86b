-- Records that the broker holds all events up to `exported`, and clears the alarm. Returns true; NULL,
-- without a change, if the lease is lost; false if the epoch is not `export_epoch` or the recorded number is
-- greater.
-- Locks: the lease row (FOR SHARE), then the row of `export`.
CREATE OR REPLACE FUNCTION record_export(lease bigint, held_epoch bigint, export_epoch bigint, exported bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT shard.lease_held(lease, held_epoch) THEN
        RETURN NULL;
    END IF;
    UPDATE shard.export SET exported_seq = exported, alarm = NULL, alarm_since = NULL
    WHERE epoch = export_epoch AND exported_seq <= exported;
    RETURN FOUND;
END $$;
