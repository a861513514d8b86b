-- Sets the visibility timeout of a received message to `p_visibility_ms` from now; 0 makes it visible
-- immediately and notifies receivers. Returns false if the receipt has expired. Locks only the message's row.
-- Errors: FQ001 if there is no such queue.
CREATE OR REPLACE FUNCTION fifo_change_visibility(p_queue text, p_sequence bigint, p_receipt uuid, p_visibility_ms bigint)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source control.fifo_queues := control.fifo_queue(p_queue);
    moment timestamptz := clock_timestamp();
BEGIN
    UPDATE control.fifo_messages m SET visible_at = moment + interval '1 millisecond' * p_visibility_ms
    WHERE m.sequence = p_sequence AND m.queue_id = source.queue_id AND m.receipt = p_receipt AND m.visible_at > moment;
    IF FOUND AND p_visibility_ms = 0 THEN
        PERFORM pg_notify('fifo', p_queue);
    ELSIF NOT FOUND THEN
        RETURN false;
    END IF;
    RETURN true;
END $$;
