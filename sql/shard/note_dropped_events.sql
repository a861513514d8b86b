-- As before, but waits for a month that is being dropped first, and not while it keeps new ones out.
-- Moves `dropped_seq` up to the first event that is still there.
-- Moves `dropped_seq` up to the first event that is still there.
CREATE OR REPLACE FUNCTION shard.note_dropped_events() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM shard.horizon FOR UPDATE;
    UPDATE shard.horizon h SET dropped_seq = k.dropped_seq
    FROM (SELECT coalesce(shard.first_kept_seq(h.dropped_seq) - 1, s.last_seq) AS dropped_seq FROM shard.sequence s, shard.horizon h WHERE h.drops > 0) k
    WHERE h.dropped_seq < k.dropped_seq;
END $$;
