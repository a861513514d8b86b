-- Receives up to `most` messages, each the head of another group, the longest visible first. Each gets a new
-- receipt and is hidden for `p_visibility_ms` (NULL: the queue's default). A message that was already
-- received `max_receives` times goes to the dead-letter queue instead.
-- Locks: the messages' rows with SKIP LOCKED, advisory locks are only tried: does not wait.
-- Errors: FQ001 if there is no such queue.
CREATE OR REPLACE FUNCTION fifo_receive(p_queue text, most int, p_visibility_ms bigint)
RETURNS TABLE (sequence bigint, message_id uuid, group_id text, dedup_id text, body text, attributes text,
               sent_at timestamptz, receives int, receipt uuid)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source control.fifo_queues := control.fifo_queue(p_queue);
    moment timestamptz;
    given int := 0;
    buried int;
    m control.fifo_messages;
BEGIN
    LOOP
        buried := 0;
        moment := clock_timestamp();
        FOR m IN
            SELECT * FROM control.fifo_messages n
            WHERE n.queue_id = source.queue_id AND n.head AND n.visible_at <= moment
            ORDER BY n.visible_at, n.sequence LIMIT most FOR UPDATE SKIP LOCKED
        LOOP
            IF m.receives >= source.max_receives THEN
                buried := buried + control.fifo_bury(source, m.sequence, m.group_id)::int;
                CONTINUE;
            END IF;
            UPDATE control.fifo_messages n
            SET receives = n.receives + 1, receipt = gen_random_uuid(),
                visible_at = moment + interval '1 millisecond' * coalesce(p_visibility_ms, source.visibility_ms)
            WHERE n.sequence = m.sequence
            RETURNING n.sequence, n.message_id, n.group_id, n.dedup_id, n.body, n.attributes::text, n.sent_at,
                      n.receives, n.receipt
            INTO fifo_receive.sequence, fifo_receive.message_id, fifo_receive.group_id, fifo_receive.dedup_id,
                 fifo_receive.body, fifo_receive.attributes, fifo_receive.sent_at, fifo_receive.receives,
                 fifo_receive.receipt;
            given := given + 1;
            RETURN NEXT;
        END LOOP;
        -- The message behind a dead letter may be due.
        EXIT WHEN given > 0 OR buried = 0;
    END LOOP;
END $$;
