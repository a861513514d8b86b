-- Moves `horizon.dropped_seq` up to the first stored event, or to the last number if none is stored; no
-- effect if nothing was ever dropped.
-- Locks: the row of `horizon` first, which waits for a drop in progress; then the gate, shared. In the other
-- order the wait would block the creation of partitions.
CREATE OR REPLACE FUNCTION note_dropped_events() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM shard.horizon FOR UPDATE;
    UPDATE shard.horizon h SET dropped_seq = k.dropped_seq
    FROM (SELECT coalesce(shard.first_kept_seq(h.dropped_seq) - 1, s.last_seq) AS dropped_seq FROM shard.sequence s, shard.horizon h WHERE h.drops > 0) k
    WHERE h.dropped_seq < k.dropped_seq;
END $$;
