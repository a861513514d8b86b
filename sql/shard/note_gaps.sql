-- Trigger function: after a drop, numbers up to the last one may have gaps (`event_gaps.upto`).
CREATE OR REPLACE FUNCTION note_gaps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shard.event_gaps SET upto = last_seq FROM shard.sequence;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER note_gaps AFTER UPDATE ON shard.horizon
    FOR EACH ROW WHEN (new.drops > old.drops) EXECUTE FUNCTION shard.note_gaps();
