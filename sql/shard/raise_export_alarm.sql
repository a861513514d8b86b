-- Notes why nothing is sent, as long as the epoch is this one. Answers as record_export does.
CREATE OR REPLACE FUNCTION shard.raise_export_alarm(lease bigint, held_epoch bigint, export_epoch bigint, why text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT shard.lease_held(lease, held_epoch) THEN
        RETURN NULL;
    END IF;
    UPDATE shard.export SET alarm = why, alarm_since = coalesce(alarm_since, now()) WHERE epoch = export_epoch;
    RETURN FOUND;
END $$;
