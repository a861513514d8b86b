-- FIFO queues with the semantics of Amazon SQS: messages of a group one after another, receipts that expire, a window in
-- which a repeated message is the same message, dead letters.
CREATE TABLE fifo_queues (
    queue_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    -- How long a received message is kept from others, unless its receiver says otherwise.
    visibility_ms bigint NOT NULL CHECK (visibility_ms >= 0),
    -- Where messages go that were received so often and not deleted.
    dead_letters int REFERENCES fifo_queues,
    max_receives int CHECK (max_receives > 0),
    CHECK ((dead_letters IS NULL) = (max_receives IS NULL)),
    CHECK (dead_letters <> queue_id)
);

-- What has been sent and not deleted. What changes whether a group has messages does so in its turn (fifo_turn): the order
-- of a group's sequence numbers is the order of its commits.
CREATE SEQUENCE fifo_sequence;
CREATE TABLE fifo_messages (
    -- Of a group the lower one comes first.
    sequence bigint PRIMARY KEY,
    queue_id int NOT NULL REFERENCES fifo_queues ON DELETE CASCADE,
    message_id uuid NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    dedup_id text COLLATE "C" NOT NULL,
    -- Its group's first: the only one that can be received.
    head boolean NOT NULL,
    body text NOT NULL,
    attributes jsonb NOT NULL,
    sent_at timestamptz NOT NULL,
    visible_at timestamptz NOT NULL,
    receives int NOT NULL DEFAULT 0,
    -- The latest receive's.
    receipt uuid
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- One message of a group can be received, whatever the programs believe.
CREATE UNIQUE INDEX fifo_heads ON fifo_messages (queue_id, group_id) WHERE head;
-- Serves receiving: the longest visible first.
CREATE INDEX fifo_due ON fifo_messages (queue_id, visible_at, sequence) WHERE head;
-- Serves finding a group's next.
CREATE INDEX fifo_by_group ON fifo_messages (queue_id, group_id, sequence);

-- What was sent within the last five minutes, also if it has been deleted since.
CREATE TABLE fifo_deduplication (
    queue_id int NOT NULL REFERENCES fifo_queues ON DELETE CASCADE,
    dedup_id text COLLATE "C" NOT NULL,
    message_id uuid NOT NULL,
    sequence bigint NOT NULL,
    sent_at timestamptz NOT NULL,
    -- One message for an id, however often it is sent.
    PRIMARY KEY (queue_id, dedup_id)
);
-- Serves forgetting.
CREATE INDEX fifo_deduplication_by_age ON fifo_deduplication (sent_at);

-- What was deleted within the last minute, so that a delete whose answer was lost can be repeated.
CREATE TABLE fifo_deleted (
    sequence bigint PRIMARY KEY,
    receipt uuid NOT NULL,
    deleted_at timestamptz NOT NULL
);
-- Serves forgetting.
CREATE INDEX fifo_deleted_by_age ON fifo_deleted (deleted_at);

CREATE FUNCTION fifo_queue(p_name text) RETURNS fifo_queues STABLE LANGUAGE plpgsql AS $$
DECLARE
    found_queue fifo_queues;
BEGIN
    SELECT q.* INTO found_queue FROM fifo_queues q WHERE q.name = p_name;
    IF NOT FOUND THEN
        RAISE 'there is no queue %', p_name USING ERRCODE = 'FQ001';
    END IF;
    RETURN found_queue;
END $$;

CREATE FUNCTION fifo_turn(p_queue int, p_group text) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$
    SELECT hashtextextended('fifo/' || p_queue || '/' || p_group, 0)
$$;

-- Makes a group's first message its head, in the group's turn, and wakes a receiver if there is one.
CREATE FUNCTION fifo_promote(p_queue fifo_queues, p_group text) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE fifo_messages m SET head = true WHERE m.sequence = (
        SELECT n.sequence FROM fifo_messages n WHERE n.queue_id = p_queue.queue_id AND n.group_id = p_group
        ORDER BY n.sequence LIMIT 1
    );
    IF FOUND THEN
        PERFORM pg_notify('fifo', p_queue.name);
    END IF;
END $$;

-- Sends messages in the order of the arrays; a repeated one is answered with what was sent first. The functions that
-- follow keep to index scans: their plans stay, and the tables may have been empty at first.
CREATE FUNCTION fifo_send(p_queue text, p_groups text[], p_dedups text[], p_bodies text[], p_attributes text[])
RETURNS TABLE (message_id uuid, sequence bigint) LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    target fifo_queues := fifo_queue(p_queue);
    moment timestamptz;
    m record;
BEGIN
    PERFORM pg_advisory_xact_lock(turn) FROM (
        SELECT DISTINCT fifo_turn(target.queue_id, g) AS turn FROM unnest(p_groups) AS g ORDER BY 1
    ) AS turns;
    moment := clock_timestamp();
    FOR m IN
        SELECT * FROM unnest(p_groups, p_dedups, p_bodies, p_attributes)
            WITH ORDINALITY AS t (group_id, dedup_id, body, attributes, place) ORDER BY place
    LOOP
        message_id := gen_random_uuid();
        sequence := nextval('fifo_sequence');
        INSERT INTO fifo_deduplication AS d (queue_id, dedup_id, message_id, sequence, sent_at)
        VALUES (target.queue_id, m.dedup_id, fifo_send.message_id, fifo_send.sequence, moment)
        ON CONFLICT ON CONSTRAINT fifo_deduplication_pkey DO UPDATE
            SET message_id = excluded.message_id, sequence = excluded.sequence, sent_at = excluded.sent_at
            WHERE d.sent_at <= moment - interval '5 minutes';
        IF FOUND THEN
            INSERT INTO fifo_messages AS n
                (sequence, queue_id, message_id, group_id, dedup_id, head, body, attributes, sent_at, visible_at)
            VALUES (fifo_send.sequence, target.queue_id, fifo_send.message_id, m.group_id, m.dedup_id,
                    NOT EXISTS (SELECT FROM fifo_messages o
                                WHERE o.queue_id = target.queue_id AND o.group_id = m.group_id),
                    m.body, m.attributes::jsonb, moment, moment);
        ELSE
            SELECT d.message_id, d.sequence INTO fifo_send.message_id, fifo_send.sequence
            FROM fifo_deduplication d WHERE d.queue_id = target.queue_id AND d.dedup_id = m.dedup_id;
        END IF;
        RETURN NEXT;
    END LOOP;
    DELETE FROM fifo_deduplication d WHERE (d.queue_id, d.dedup_id) IN (
        SELECT o.queue_id, o.dedup_id FROM fifo_deduplication o WHERE o.sent_at <= moment - interval '5 minutes'
        ORDER BY o.sent_at LIMIT 2 * cardinality(p_groups) FOR UPDATE SKIP LOCKED
    );
    PERFORM pg_notify('fifo', p_queue);
END $$;

-- Moves a message to the dead letters, if nobody is just changing its group: false if somebody is. Waits for nobody, as its
-- caller holds the message's row.
CREATE FUNCTION fifo_bury(p_queue fifo_queues, p_sequence bigint, p_group text) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(fifo_turn(p_queue.queue_id, p_group))
       OR NOT pg_try_advisory_xact_lock(fifo_turn(p_queue.dead_letters, p_group)) THEN
        RETURN false;
    END IF;
    UPDATE fifo_messages m
    SET queue_id = p_queue.dead_letters, sequence = nextval('fifo_sequence'), receives = 0, receipt = NULL,
        visible_at = clock_timestamp(),
        head = NOT EXISTS (SELECT FROM fifo_messages o
                           WHERE o.queue_id = p_queue.dead_letters AND o.group_id = p_group)
    WHERE m.sequence = p_sequence;
    PERFORM fifo_promote(p_queue, p_group);
    PERFORM pg_notify('fifo', q.name) FROM fifo_queues q WHERE q.queue_id = p_queue.dead_letters;
    RETURN true;
END $$;

-- Receives at most `most` messages, each of another group, and keeps them from others for a while. One that has been
-- received too often goes to the dead letters instead.
CREATE FUNCTION fifo_receive(p_queue text, most int, p_visibility_ms bigint)
RETURNS TABLE (sequence bigint, message_id uuid, group_id text, dedup_id text, body text, attributes text,
               sent_at timestamptz, receives int, receipt uuid)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source fifo_queues := fifo_queue(p_queue);
    moment timestamptz;
    given int := 0;
    buried int;
    m fifo_messages;
BEGIN
    LOOP
        buried := 0;
        moment := clock_timestamp();
        FOR m IN
            SELECT * FROM fifo_messages n
            WHERE n.queue_id = source.queue_id AND n.head AND n.visible_at <= moment
            ORDER BY n.visible_at, n.sequence LIMIT most FOR UPDATE SKIP LOCKED
        LOOP
            IF m.receives >= source.max_receives THEN
                buried := buried + fifo_bury(source, m.sequence, m.group_id)::int;
                CONTINUE;
            END IF;
            UPDATE fifo_messages n
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
        -- What stood behind a dead letter may be due.
        EXIT WHEN given > 0 OR buried = 0;
    END LOOP;
END $$;

-- Deletes a received message. False: the receipt has expired, and nothing is changed.
CREATE FUNCTION fifo_delete(p_queue text, p_sequence bigint, p_receipt uuid) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source fifo_queues := fifo_queue(p_queue);
    its_group text;
BEGIN
    SELECT m.group_id INTO its_group FROM fifo_messages m
    WHERE m.sequence = p_sequence AND m.queue_id = source.queue_id;
    IF FOUND THEN
        PERFORM pg_advisory_xact_lock(fifo_turn(source.queue_id, its_group));
        DELETE FROM fifo_messages m
        WHERE m.sequence = p_sequence AND m.queue_id = source.queue_id AND m.receipt = p_receipt
          AND m.visible_at > clock_timestamp();
    END IF;
    IF NOT FOUND THEN
        RETURN EXISTS (SELECT FROM fifo_deleted d WHERE d.sequence = p_sequence AND d.receipt = p_receipt);
    END IF;
    INSERT INTO fifo_deleted VALUES (p_sequence, p_receipt, clock_timestamp());
    DELETE FROM fifo_deleted d WHERE d.sequence IN (
        SELECT o.sequence FROM fifo_deleted o WHERE o.deleted_at <= now() - interval '1 minute'
        ORDER BY o.deleted_at LIMIT 4 FOR UPDATE SKIP LOCKED
    );
    PERFORM fifo_promote(source, its_group);
    RETURN true;
END $$;

-- Keeps a received message from others so long from now; 0: others may have it at once. False: the receipt has expired.
CREATE FUNCTION fifo_change_visibility(p_queue text, p_sequence bigint, p_receipt uuid, p_visibility_ms bigint)
RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    source fifo_queues := fifo_queue(p_queue);
    moment timestamptz := clock_timestamp();
BEGIN
    UPDATE fifo_messages m SET visible_at = moment + interval '1 millisecond' * p_visibility_ms
    WHERE m.sequence = p_sequence AND m.queue_id = source.queue_id AND m.receipt = p_receipt AND m.visible_at > moment;
    IF FOUND AND p_visibility_ms = 0 THEN
        PERFORM pg_notify('fifo', p_queue);
    ELSIF NOT FOUND THEN
        RETURN false;
    END IF;
    RETURN true;
END $$;
