-- Notes what the broker holds, and that all is well. Answers null to a holder that has lost its lease, and false if the
-- epoch is another one now; then nothing is changed.
CREATE OR REPLACE FUNCTION shard.record_export(lease bigint, held_epoch bigint, export_epoch bigint, exported bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT shard.lease_held(lease, held_epoch) THEN
        RETURN NULL;
    END IF;
    UPDATE shard.export SET exported_seq = exported, alarm = NULL, alarm_since = NULL
    WHERE epoch = export_epoch AND exported_seq <= exported;
    RETURN FOUND;
END $$;
