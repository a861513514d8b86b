-- Leases with fencing, as in the control database: who numbers, aggregates and exports this shard's events.
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
CREATE FUNCTION lease_held(lease bigint, held_epoch bigint) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (SELECT FROM leases WHERE lease_id = lease AND epoch = held_epoch FOR SHARE)
$$;

-- The last number given. Its row's lock lets one numbering transaction follow the other.
CREATE TABLE sequence (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0)
);
INSERT INTO sequence DEFAULT VALUES;

-- Batches whose events have numbers: the event at `place` of a batch has the number first_seq + place.
CREATE TABLE batches (
    first_seq bigint PRIMARY KEY,
    batch_id bigint NOT NULL,
    events int NOT NULL CHECK (events > 0),
    first_dt timestamptz NOT NULL,
    last_dt timestamptz NOT NULL
);

-- Gives the next numbers to at most `most` pending batches, in the order of their ids; answers how many batches and the
-- last number. Only what is committed is seen, so no number is ever given below one that somebody has read. A holder
-- that has lost its lease gets null and changes nothing.
CREATE FUNCTION number_batches(lease bigint, held_epoch bigint, most int, OUT numbered int, OUT last bigint)
LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
BEGIN
    IF NOT lease_held(lease, held_epoch) THEN
        RETURN;
    END IF;
    SELECT last_seq INTO base FROM sequence FOR UPDATE;
    WITH taken AS (
        DELETE FROM pending_batches
        WHERE batch_id IN (SELECT batch_id FROM pending_batches ORDER BY batch_id LIMIT most)
        RETURNING *
    ), put AS (
        INSERT INTO batches (first_seq, batch_id, events, first_dt, last_dt)
        SELECT base + 1 + sum(events) OVER (ORDER BY batch_id) - events, batch_id, events, first_dt, last_dt FROM taken
        RETURNING events
    )
    SELECT count(*), base + coalesce(sum(events), 0) INTO numbered, last FROM put;
    IF numbered > 0 THEN
        UPDATE sequence SET last_seq = last;
    END IF;
END $$;
