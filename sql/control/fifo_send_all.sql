-- Sends messages to several queues and creates missing ones, with a visibility timeout of 30 s. A created
-- queue has a dead-letter queue (`NAME-dead.fifo`) after 50 receives: a message that crashes its receiver
-- every time blocks its group for about half an hour, not for ever.
--
-- - Result: as fifo_send, queue by queue in the order of their names, not in the order of the arrays.
-- - Cost: the batch is grouped by queue once, not scanned for each queue.
-- - Locks: missing queues are inserted in the order of their names; then the locks of fifo_send, queue by
--   queue.
CREATE OR REPLACE FUNCTION fifo_send_all(
    p_queues text[], p_groups text[], p_dedups text[], p_bodies text[], p_attributes text[]
) RETURNS TABLE (message_id uuid, sequence bigint) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    its record;
    missing text[] := ARRAY(
        SELECT DISTINCT n FROM unnest(p_queues) AS n WHERE NOT EXISTS (SELECT FROM control.fifo_queues q WHERE q.name = n)
    );
BEGIN
    -- In the order of their names: concurrent calls do not deadlock.
    IF cardinality(missing) > 0 THEN
        INSERT INTO control.fifo_queues (name, visibility_ms)
            SELECT regexp_replace(n, '(\.fifo)?$', '-dead.fifo'), 30000 FROM unnest(missing) AS n ORDER BY 1
            ON CONFLICT DO NOTHING;
        INSERT INTO control.fifo_queues (name, visibility_ms, dead_letters, max_receives)
            SELECT n, 30000, d.queue_id, 50 FROM unnest(missing) AS n
            JOIN control.fifo_queues d ON d.name = regexp_replace(n, '(\.fifo)?$', '-dead.fifo') ORDER BY n
            ON CONFLICT DO NOTHING;
    END IF;
    FOR its IN
        SELECT t.q AS name, array_agg(t.g ORDER BY t.place) AS groups, array_agg(t.d ORDER BY t.place) AS dedups,
               array_agg(t.b ORDER BY t.place) AS bodies, array_agg(t.a ORDER BY t.place) AS attributes
        FROM unnest(p_queues, p_groups, p_dedups, p_bodies, p_attributes) WITH ORDINALITY AS t (q, g, d, b, a, place)
        GROUP BY t.q ORDER BY t.q
    LOOP
        RETURN QUERY SELECT s.message_id, s.sequence FROM control.fifo_send(its.name, its.groups, its.dedups, its.bodies, its.attributes) AS s;
    END LOOP;
END $$;
