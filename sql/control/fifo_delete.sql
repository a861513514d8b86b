-- Deletes a received message and makes the next message of its group the head. Returns false, without a
-- change, if the receipt has expired. A repeated delete returns true for at least a minute: `fifo_deleted`
-- keeps the receipt; each call deletes up to four older rows of it.
-- Locks: the group's advisory lock, then the message's row. Errors: FQ001 if there is no such queue.
CREATE OR REPLACE FUNCTION fifo_delete(p_queue text, p_sequence bigint, p_receipt uuid) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source control.fifo_queues := control.fifo_queue(p_queue);
    its_group text;
BEGIN
    SELECT m.group_id INTO its_group FROM control.fifo_messages m
    WHERE m.sequence = p_sequence AND m.queue_id = source.queue_id;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(control.fifo_turn(source.queue_id, its_group));
        DELETE FROM control.fifo_messages m
        WHERE m.sequence = p_sequence AND m.queue_id = source.queue_id AND m.receipt = p_receipt
          AND m.visible_at > clock_timestamp();
    END IF;
    IF NOT FOUND THEN
        RETURN EXISTS (SELECT FROM control.fifo_deleted d WHERE d.sequence = p_sequence AND d.receipt = p_receipt);
    END IF;
    INSERT INTO control.fifo_deleted VALUES (p_sequence, p_receipt, clock_timestamp());
    DELETE FROM control.fifo_deleted d WHERE d.sequence IN (
        SELECT o.sequence FROM control.fifo_deleted o WHERE o.deleted_at <= now() - interval '1 minute'
        ORDER BY o.deleted_at LIMIT 4 FOR UPDATE SKIP LOCKED
    );
    PERFORM control.fifo_promote(source, its_group);
    RETURN true;
END $$;
