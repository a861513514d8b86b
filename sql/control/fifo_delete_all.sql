-- Deletes received messages; answers, in the order of the arrays, which receipts held.
CREATE OR REPLACE FUNCTION control.fifo_delete_all(p_queue text, p_sequences bigint[], p_receipts uuid[]) RETURNS boolean[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source control.fifo_queues := control.fifo_queue(p_queue);
    deleted boolean[] := '{}';
BEGIN
    -- Turns in the order in which fifo_send takes them.
    PERFORM pg_advisory_xact_lock(turn) FROM (
        SELECT DISTINCT control.fifo_turn(source.queue_id, m.group_id) AS turn
        FROM control.fifo_messages m WHERE m.sequence = ANY (p_sequences) AND m.queue_id = source.queue_id ORDER BY 1
    ) AS turns;
    FOR place IN 1 .. coalesce(cardinality(p_sequences), 0) LOOP
        deleted[place] := control.fifo_delete(p_queue, p_sequences[place], p_receipts[place]);
    END LOOP;
    RETURN deleted;
END $$;
