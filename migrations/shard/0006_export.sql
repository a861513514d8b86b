-- How far the shard's events have been exported, as its exporter last knew. The broker itself says where to go on; this
-- says what it must hold at least, so that a broker or a ledger that was put back to an older copy is noticed.
CREATE TABLE export (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Raised when the ledger was put back behind its broker: (epoch, number) names one event for ever.
    epoch bigint NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    -- The epoch's first number. What the stream holds at or above it under earlier epochs is void.
    first_seq bigint NOT NULL DEFAULT 1 CHECK (first_seq >= 1),
    -- The last number that the broker is known to hold for good.
    exported_seq bigint NOT NULL DEFAULT 0,
    -- What the stream ended with when the epoch was decided; null: it was empty.
    follows_epoch bigint,
    follows_seq bigint,
    -- Why nothing is sent; null: all is well.
    alarm text,
    alarm_since timestamptz,
    CHECK (exported_seq >= first_seq - 1),
    CHECK (follows_epoch < epoch),
    CHECK ((follows_epoch IS NULL) = (follows_seq IS NULL)),
    CHECK ((alarm IS NULL) = (alarm_since IS NULL))
);
INSERT INTO export DEFAULT VALUES;

-- Notes what the broker holds, and that all is well. Answers null to a holder that has lost its lease, and false if the
-- epoch is another one now; then nothing is changed.
CREATE FUNCTION record_export(lease bigint, held_epoch bigint, export_epoch bigint, exported bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT lease_held(lease, held_epoch) THEN
        RETURN NULL;
    END IF;
    UPDATE export SET exported_seq = exported, alarm = NULL, alarm_since = NULL
    WHERE epoch = export_epoch AND exported_seq <= exported;
    RETURN FOUND;
END $$;

-- Notes why nothing is sent, as long as the epoch is this one. Answers as record_export does.
CREATE FUNCTION raise_export_alarm(lease bigint, held_epoch bigint, export_epoch bigint, why text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT lease_held(lease, held_epoch) THEN
        RETURN NULL;
    END IF;
    UPDATE export SET alarm = why, alarm_since = coalesce(alarm_since, now()) WHERE epoch = export_epoch;
    RETURN FOUND;
END $$;
