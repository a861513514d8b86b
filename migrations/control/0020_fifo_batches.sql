-- Sends to several queues at once, and makes those that are not there: in Postgres a queue is no more than a name.
CREATE FUNCTION fifo_send_all(p_queues text[], p_groups text[], p_dedups text[], p_bodies text[], p_attributes text[])
RETURNS TABLE (message_id uuid, sequence bigint) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    its_name text;
BEGIN
    -- In the order of their names, as everybody does who makes several; those that are there cost nothing.
    INSERT INTO fifo_queues (name, visibility_ms)
        SELECT DISTINCT n, 30000 FROM unnest(p_queues) AS n
        WHERE NOT EXISTS (SELECT FROM fifo_queues q WHERE q.name = n) ORDER BY n
        ON CONFLICT DO NOTHING;
    FOR its_name IN SELECT DISTINCT n FROM unnest(p_queues) AS n ORDER BY n LOOP
        RETURN QUERY SELECT s.message_id, s.sequence FROM fifo_send(its_name,
            (SELECT array_agg(t.g ORDER BY t.place) FROM unnest(p_queues, p_groups) WITH ORDINALITY AS t (q, g, place) WHERE t.q = its_name),
            (SELECT array_agg(t.d ORDER BY t.place) FROM unnest(p_queues, p_dedups) WITH ORDINALITY AS t (q, d, place) WHERE t.q = its_name),
            (SELECT array_agg(t.b ORDER BY t.place) FROM unnest(p_queues, p_bodies) WITH ORDINALITY AS t (q, b, place) WHERE t.q = its_name),
            (SELECT array_agg(t.a ORDER BY t.place) FROM unnest(p_queues, p_attributes) WITH ORDINALITY AS t (q, a, place) WHERE t.q = its_name)
        ) AS s;
    END LOOP;
END $$;

-- Deletes received messages; answers, in the order of the arrays, which receipts held.
CREATE FUNCTION fifo_delete_all(p_queue text, p_sequences bigint[], p_receipts uuid[]) RETURNS boolean[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source fifo_queues := fifo_queue(p_queue);
    deleted boolean[] := '{}';
BEGIN
    -- Turns in the order in which fifo_send takes them.
    PERFORM pg_advisory_xact_lock(turn) FROM (
        SELECT DISTINCT fifo_turn(source.queue_id, m.group_id) AS turn
        FROM fifo_messages m WHERE m.sequence = ANY (p_sequences) AND m.queue_id = source.queue_id ORDER BY 1
    ) AS turns;
    FOR place IN 1 .. coalesce(cardinality(p_sequences), 0) LOOP
        deleted[place] := fifo_delete(p_queue, p_sequences[place], p_receipts[place]);
    END LOOP;
    RETURN deleted;
END $$;

-- Messages for queues that lie outside Postgres, committed with what they are about; sent afterwards, in the order of a
-- group, at least once.
CREATE TABLE fifo_outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Which engine has the queue, such as an environment's.
    place text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    dedup_id text COLLATE "C" NOT NULL,
    body text NOT NULL,
    attributes text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Not before: another process is just sending it, or it could not be sent.
    next_at timestamptz NOT NULL DEFAULT now(),
    attempts int NOT NULL DEFAULT 0,
    last_error text
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves claiming what is due.
CREATE INDEX fifo_outbox_due ON fifo_outbox (next_at, outbox_id);
-- Serves finding whether an earlier one of the group waits.
CREATE INDEX fifo_outbox_by_group ON fifo_outbox (place, queue, group_id, outbox_id);
-- Serves taking back what is not wanted any more.
CREATE INDEX fifo_outbox_by_dedup ON fifo_outbox (dedup_id);
