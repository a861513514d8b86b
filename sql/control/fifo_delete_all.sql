-- Deletes received messages of one queue; returns for each, in the order of the arrays, the result of
-- fifo_delete.
-- Locks: all groups' advisory locks, in the order of their hashes. Errors: FQ001 if there is no such queue.
CREATE OR REPLACE FUNCTION fifo_delete_all(p_queue text, p_sequences bigint[], p_receipts uuid[]) RETURNS boolean[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source control.fifo_queues := control.fifo_queue(p_queue);
    deleted boolean[] := '{}';
BEGIN
    -- The same lock order as in fifo_send.
    PERFORM pg_advisory_xact_lock(turn) FROM (
        SELECT DISTINCT control.fifo_turn(source.queue_id, m.group_id) AS turn
        FROM control.fifo_messages m WHERE m.sequence = ANY (p_sequences) AND m.queue_id = source.queue_id ORDER BY 1
    ) AS turns;
    FOR place IN 1 .. coalesce(cardinality(p_sequences), 0) LOOP
        deleted[place] := control.fifo_delete(p_queue, p_sequences[place], p_receipts[place]);
    END LOOP;
    RETURN deleted;
END $$;
