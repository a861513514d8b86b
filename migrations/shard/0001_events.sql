-- What this database needs of a program: `min_compatible` is the lowest schema version a program may know.
CREATE TABLE schema_compatibility (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    min_compatible bigint NOT NULL
);
INSERT INTO schema_compatibility (min_compatible) VALUES (1);

-- Which shard this is: a wrong shard map must not write to it. Hash prefixes, 16 hex digits each.
CREATE TABLE shard_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    name text NOT NULL,
    range_first text NOT NULL CHECK (range_first ~ '^[0-9a-f]{16}$'),
    range_last text NOT NULL CHECK (range_last ~ '^[0-9a-f]{16}$')
);

-- An account is its type and key attributes (canonical text); its id is a hash of both, the same everywhere.
CREATE TABLE accounts (
    account_id bigint PRIMARY KEY,
    type text NOT NULL,
    attributes text NOT NULL
);
-- Serves: is anything of this type here?
CREATE INDEX accounts_by_type ON accounts (type);

-- Combinations of auxiliary attributes, as canonical text and as an object of canonical texts; absent means null.
CREATE TABLE tuples (
    tuple_id bigint PRIMARY KEY,
    canonical text NOT NULL,
    attributes jsonb NOT NULL
);

-- The idempotency keys: a hash of type and event id, and one of the whole content. They outlive dropped events.
CREATE TABLE event_keys (
    key uuid PRIMARY KEY,
    content uuid NOT NULL
) PARTITION BY HASH (key);
CREATE TABLE event_keys_0 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE event_keys_1 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE event_keys_2 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE event_keys_3 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE event_keys_4 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE event_keys_5 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE event_keys_6 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE event_keys_7 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- One row for each transaction that wrote events, until its events have their numbers: what is visible here is
-- committed, so whoever numbers never has to wait for a transaction that is still open.
CREATE TABLE pending_batches (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    events int NOT NULL CHECK (events > 0),
    -- The months it touched.
    first_dt timestamptz NOT NULL,
    last_dt timestamptz NOT NULL
);

-- Events, by month of dt (UTC). Never updated: an event's number follows from its batch and its place in it.
CREATE TABLE events (
    dt timestamptz NOT NULL,
    account_id bigint NOT NULL,
    tuple_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    place int NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    debit numeric,
    credit numeric,
    -- As written.
    info text,
    CHECK ((debit IS NULL) <> (credit IS NULL)),
    CHECK (coalesce(debit, credit) >= 0)
) PARTITION BY RANGE (dt);
-- Serves balances, turnovers and listings of one account.
CREATE INDEX events_by_account ON events (account_id, dt);

-- Serves reading the events of a batch, in the order of their numbers.
CREATE INDEX events_by_batch ON events (batch_id);

-- Makes sure that there are partitions for these months (their first moments). Attaching a finished table locks
-- neither writers nor readers out, which creating it as a partition would.
CREATE FUNCTION create_event_months(months timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
    partition text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.create_event_months'));
    FOREACH month IN ARRAY months LOOP
        partition := 'events_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
        EXECUTE format('CREATE INDEX %I ON %I (account_id, dt)', partition || '_by_account', partition);
        EXECUTE format('CREATE INDEX %I ON %I (batch_id)', partition || '_by_batch', partition);
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition,
                       month, (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END $$;

-- Writes the parts of several callers in one transaction, each part all or nothing, and answers the events that were
-- not created: place in the arrays, and 'd' (duplicate), 'c' (conflict) or 'n' (not written: its part has a conflict).
--
-- Keys come sorted by key, each once (key_events: its event's place, from 1); events come in their callers' order.
-- Lock order: accounts, tuples, keys, each sorted. The common case, nothing of it there, is three plain inserts.
CREATE FUNCTION write_events(
    keys uuid[], key_contents uuid[], key_events int[],
    parts int[], dts timestamptz[], account_ids bigint[], tuple_ids bigint[], event_ids text[],
    debits numeric[], credits numeric[], infos text[],
    new_account_ids bigint[], new_account_types text[], new_account_attributes text[],
    new_tuple_ids bigint[], new_tuple_canonicals text[], new_tuple_attributes text[]
) RETURNS TABLE (event int, status "char") LANGUAGE plpgsql AS $$
DECLARE
    fresh uuid[];
    judged_keys uuid[];
    judged_events int[];
    judged "char"[];
    -- The events that are new; null: all are.
    written int[];
    batch bigint;
BEGIN
    IF cardinality(new_account_ids) > 0 THEN
        INSERT INTO accounts SELECT * FROM unnest(new_account_ids, new_account_types, new_account_attributes)
        ON CONFLICT DO NOTHING;
        IF EXISTS (SELECT FROM unnest(new_account_ids, new_account_types, new_account_attributes) AS n (id, type, attributes)
                   JOIN accounts a ON a.account_id = n.id WHERE (a.type, a.attributes) <> (n.type, n.attributes)) THEN
            RAISE 'two accounts with one id' USING ERRCODE = 'LC001';
        END IF;
    END IF;
    IF cardinality(new_tuple_ids) > 0 THEN
        INSERT INTO tuples SELECT id, canonical, attributes::jsonb
        FROM unnest(new_tuple_ids, new_tuple_canonicals, new_tuple_attributes) AS n (id, canonical, attributes)
        ON CONFLICT DO NOTHING;
        IF EXISTS (SELECT FROM unnest(new_tuple_ids, new_tuple_canonicals) AS n (id, canonical)
                   JOIN tuples t ON t.tuple_id = n.id WHERE t.canonical <> n.canonical) THEN
            RAISE 'two attribute combinations with one id' USING ERRCODE = 'LC001';
        END IF;
    END IF;

    BEGIN
        INSERT INTO event_keys SELECT * FROM unnest(keys, key_contents);
    EXCEPTION WHEN unique_violation THEN
        -- Some are there. This waits for those being written now, and the next statement sees what became of them.
        WITH inserted AS (
            INSERT INTO event_keys SELECT * FROM unnest(keys, key_contents) ON CONFLICT DO NOTHING RETURNING key
        )
        SELECT coalesce(array_agg(key), '{}') INTO fresh FROM inserted;
        SELECT array_agg(j.key), array_agg(j.event),
               array_agg(CASE WHEN j.verdict = '+' AND j.part_conflicts THEN 'n' ELSE j.verdict END::"char")
        INTO judged_keys, judged_events, judged
        FROM (SELECT v.*, bool_or(v.verdict = 'c') OVER (PARTITION BY v.part) AS part_conflicts
              FROM (SELECT k.key, k.event, parts[k.event] AS part,
                           CASE WHEN k.key IN (SELECT unnest(fresh)) THEN '+'
                                WHEN s.content = k.content THEN 'd' ELSE 'c' END AS verdict
                    FROM unnest(keys, key_contents, key_events) AS k (key, content, event)
                    LEFT JOIN event_keys s ON s.key = k.key) v) j;
        DELETE FROM event_keys e
        USING unnest(judged_keys, judged) AS j (key, verdict) WHERE j.verdict = 'n' AND e.key = j.key;
        RETURN QUERY SELECT j.event, j.verdict FROM unnest(judged_events, judged) AS j (event, verdict)
                     WHERE j.verdict <> '+';
        SELECT coalesce(array_agg(j.event), '{}') INTO written
        FROM unnest(judged_events, judged) AS j (event, verdict) WHERE j.verdict = '+';
        IF cardinality(written) = 0 THEN
            RETURN;
        END IF;
    END;

    INSERT INTO pending_batches (events, first_dt, last_dt)
    SELECT count(*), min(t.dt), max(t.dt) FROM unnest(dts) WITH ORDINALITY AS t (dt, event)
    WHERE written IS NULL OR t.event IN (SELECT unnest(written))
    RETURNING batch_id INTO batch;
    INSERT INTO events (dt, account_id, tuple_id, batch_id, place, event_id, debit, credit, info)
    SELECT t.dt, t.account_id, t.tuple_id, batch,
           CASE WHEN written IS NULL THEN t.event ELSE row_number() OVER (ORDER BY t.event) END - 1,
           t.event_id, t.debit, t.credit, t.info
    FROM unnest(dts, account_ids, tuple_ids, event_ids, debits, credits, infos)
         WITH ORDINALITY AS t (dt, account_id, tuple_id, event_id, debit, credit, info, event)
    WHERE written IS NULL OR t.event IN (SELECT unnest(written));
END $$;
