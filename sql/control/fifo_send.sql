-- Sends messages to one queue, in the order of the arrays; returns id and sequence number of each, in that
-- order. A message whose deduplication id was used in the queue within five minutes is not sent again; its
-- row is that of the first one.
--
-- - Locks: the groups' advisory locks (fifo_turn), in the order of their hashes, so that sequence numbers of
--   a group ascend in commit order; then the rows of `fifo_deduplication`, in the order of the arrays.
-- - Cost: one insert into each table per message. Also deletes up to two expired deduplication rows per
--   message.
-- - Errors: FQ001 if there is no such queue.
-- - Planner: sequential scans are disabled in the FIFO functions, because their plans are cached and may be
--   made while the tables are empty.
CREATE OR REPLACE FUNCTION fifo_send(p_queue text, p_groups text[], p_dedups text[], p_bodies text[], p_attributes text[])
RETURNS TABLE (message_id uuid, sequence bigint) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    target control.fifo_queues := control.fifo_queue(p_queue);
    moment timestamptz;
    m record;
BEGIN
    PERFORM pg_advisory_xact_lock(turn) FROM (
        SELECT DISTINCT control.fifo_turn(target.queue_id, g) AS turn FROM unnest(p_groups) AS g ORDER BY 1
    ) AS turns;
    moment := clock_timestamp();
    FOR m IN
        SELECT * FROM unnest(p_groups, p_dedups, p_bodies, p_attributes)
            WITH ORDINALITY AS t (group_id, dedup_id, body, attributes, place) ORDER BY place
    LOOP
        message_id := gen_random_uuid();
        sequence := nextval('control.fifo_sequence');
        INSERT INTO control.fifo_deduplication AS d (queue_id, dedup_id, message_id, sequence, sent_at)
        VALUES (target.queue_id, m.dedup_id, fifo_send.message_id, fifo_send.sequence, moment)
        ON CONFLICT ON CONSTRAINT fifo_deduplication_pkey DO UPDATE
            SET message_id = excluded.message_id, sequence = excluded.sequence, sent_at = excluded.sent_at
            WHERE d.sent_at <= moment - interval '5 minutes';
        IF FOUND THEN
            INSERT INTO control.fifo_messages AS n
                (sequence, queue_id, message_id, group_id, dedup_id, head, body, attributes, sent_at, visible_at)
            VALUES (fifo_send.sequence, target.queue_id, fifo_send.message_id, m.group_id, m.dedup_id,
                    NOT EXISTS (SELECT FROM control.fifo_messages o
                                WHERE o.queue_id = target.queue_id AND o.group_id = m.group_id),
                    m.body, m.attributes::jsonb, moment, moment);
        ELSE
            SELECT d.message_id, d.sequence INTO fifo_send.message_id, fifo_send.sequence
            FROM control.fifo_deduplication d WHERE d.queue_id = target.queue_id AND d.dedup_id = m.dedup_id;
        END IF;
        RETURN NEXT;
    END LOOP;
    DELETE FROM control.fifo_deduplication d WHERE (d.queue_id, d.dedup_id) IN (
        SELECT o.queue_id, o.dedup_id FROM control.fifo_deduplication o WHERE o.sent_at <= moment - interval '5 minutes'
        ORDER BY o.sent_at LIMIT 2 * cardinality(p_groups) FOR UPDATE SKIP LOCKED
    );
    PERFORM pg_notify('fifo', p_queue);
END $$;
