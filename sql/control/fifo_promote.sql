-- Makes the oldest message of a group its head and notifies receivers (channel `fifo`, payload: the queue's
-- name); no effect on a group without messages. The caller holds the group's advisory lock (fifo_turn).
CREATE OR REPLACE FUNCTION fifo_promote(p_queue control.fifo_queues, p_group text) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE control.fifo_messages m SET head = true WHERE m.sequence = (
        SELECT n.sequence FROM control.fifo_messages n WHERE n.queue_id = p_queue.queue_id AND n.group_id = p_group
        ORDER BY n.sequence LIMIT 1
    );
    IF FOUND THEN
        PERFORM pg_notify('fifo', p_queue.name);
    END IF;
END $$;
