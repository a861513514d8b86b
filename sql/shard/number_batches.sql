-- Assigns the next sequence numbers to at most `most` pending batches, in the order of their ids. Returns the
-- number of batches and the last assigned number; NULLs, without a change, if the lease is lost. Only
-- committed batches are visible, so a number is never assigned below one that was already read.
-- Locks: the lease row (FOR SHARE), then the row of `sequence`, which serializes numbering.
CREATE OR REPLACE FUNCTION number_batches(lease bigint, held_epoch bigint, most int, OUT numbered int, OUT last bigint)
LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
BEGIN
    IF NOT shard.lease_held(lease, held_epoch) THEN
        RETURN;
    END IF;
    SELECT last_seq INTO base FROM shard.sequence FOR UPDATE;
    WITH taken AS (
        DELETE FROM shard.pending_batches
        WHERE batch_id IN (SELECT batch_id FROM shard.pending_batches ORDER BY batch_id LIMIT most)
        RETURNING *
    ), put AS (
        INSERT INTO shard.batches (first_seq, batch_id, events, first_dt, last_dt)
        SELECT base + 1 + sum(events) OVER (ORDER BY batch_id) - events, batch_id, events, first_dt, last_dt FROM taken
        RETURNING events
    )
    SELECT count(*), base + coalesce(sum(events), 0) INTO numbered, last FROM put;
    IF numbered > 0 THEN
        UPDATE shard.sequence SET last_seq = last;
    END IF;
END $$;
