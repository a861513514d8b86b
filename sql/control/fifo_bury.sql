-- Moves a message to the dead-letter queue of `p_queue`, under a new sequence number, and makes the next
-- message of its group the head. Returns false, without a change, if a concurrent transaction is changing the
-- group in either queue. The caller holds the message's row lock, so the groups' advisory locks, which
-- precede row locks in the lock order, are only tried.
CREATE OR REPLACE FUNCTION fifo_bury(p_queue control.fifo_queues, p_sequence bigint, p_group text) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(control.fifo_turn(p_queue.queue_id, p_group))
       OR NOT pg_try_advisory_xact_lock(control.fifo_turn(p_queue.dead_letters, p_group)) THEN
        RETURN false;
    END IF;
    UPDATE control.fifo_messages m
    SET queue_id = p_queue.dead_letters, sequence = nextval('control.fifo_sequence'), receives = 0, receipt = NULL,
        visible_at = clock_timestamp(),
        head = NOT EXISTS (SELECT FROM control.fifo_messages o
                           WHERE o.queue_id = p_queue.dead_letters AND o.group_id = p_group)
    WHERE m.sequence = p_sequence;
    PERFORM control.fifo_promote(p_queue, p_group);
    PERFORM pg_notify('fifo', q.name) FROM control.fifo_queues q WHERE q.queue_id = p_queue.dead_letters;
    RETURN true;
END $$;
