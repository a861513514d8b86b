-- Whoever looks which months there are, and whoever attaches one, keep out of each other's way. A connection notes the
-- partitions of events when it first touches them, and again when it is told that they have changed; what Postgres (15.18)
-- tells it while it notes them down is forgotten. A month that was attached in those microseconds was missing from all that
-- this connection read from then on, and not to be found for what it wrote, for as long as it lived or until the next month
-- came: from balances for a while, from aggregates for ever.
--
-- So there is a gate, an advisory lock. Who reads events or writes them holds it, shared, from before touching them to the
-- end of the transaction; who attaches a month holds it alone, until every connection has been told. (Locking the table
-- instead would let a month wait for every dump and every check.) And who attaches a month writes no events into it in the
-- same transaction: they would be seen a moment before the others are told.

-- Those of `months` that have no partitions.
CREATE FUNCTION missing_event_months(months timestamptz[]) RETURNS timestamptz[] STABLE LANGUAGE sql AS $$
    SELECT coalesce(array_agg(m.month ORDER BY m.month), '{}') FROM (SELECT DISTINCT unnest(months) AS month) m
    WHERE m.month NOT IN (SELECT e.month FROM event_months() e)
$$;

-- Makes sure that there are partitions for these months (their first moments). The tables are made first, which locks nobody
-- out. Then the gate is waited for 40 ms at most (others wait behind it) and held while they are attached; if it cannot be
-- had, others go on and it is tried again.
CREATE OR REPLACE FUNCTION create_event_months(months timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    patience text := current_setting('lock_timeout');
    missing timestamptz[] := missing_event_months(months);
    month timestamptz;
BEGIN
    IF cardinality(missing) = 0 THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.create_event_months'));
    -- By a snapshot of after the wait. (A name that was looked up before it would still be taken for unknown.)
    missing := missing_event_months(months);
    IF cardinality(missing) = 0 THEN
        RETURN;
    END IF;
    FOREACH month IN ARRAY missing LOOP
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', event_partition(month));
        EXECUTE format('CREATE INDEX %I ON %I (account_id, dt)', event_partition(month) || '_by_account', event_partition(month));
        EXECUTE format('CREATE INDEX %I ON %I (batch_id)', event_partition(month) || '_by_batch', event_partition(month));
    END LOOP;
    FOR try IN 1..30 LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '40ms', true);
            PERFORM pg_advisory_xact_lock(hashtext(current_schema() || '.event_months'));
            FOREACH month IN ARRAY missing LOOP
                EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                               event_partition(month), month, month_after(month));
            END LOOP;
            PERFORM set_config('lock_timeout', patience, true);
            -- Everybody waits for this transaction now: should its client be paused or cut off, it ends soon.
            PERFORM set_config('idle_in_transaction_session_timeout', '2000', true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.02 + 0.04 * random());
        END;
    END LOOP;
    RAISE 'a month could not be attached: events are in use' USING ERRCODE = 'lock_not_available';
END $$;

-- As before, behind the gate, and planned once a connection: a plan that is kept is looked at again when it is run, so under
-- the caller's snapshot, and made anew if a month has been attached since.
CREATE OR REPLACE FUNCTION numbered_events(after bigint, span bigint, most bigint) RETURNS TABLE (
    seq bigint, type_name text, key text, auxiliary text, event_id text, dt timestamptz, debit numeric, credit numeric, info text
) STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months'));
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT * FROM batches
        WHERE first_seq >= coalesce((SELECT max(first_seq) FROM batches WHERE first_seq <= after + 1), 1)
          AND first_seq <= after + span
        ORDER BY first_seq
    )
    SELECT b.first_seq + e.place AS number, a.type, a.attributes, t.canonical, e.event_id, e.dt, e.debit, e.credit, e.info
    FROM wanted b
    CROSS JOIN LATERAL (
        SELECT * FROM events x WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt
    ) e
    JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id)
    WHERE b.first_seq + e.place > after AND b.first_seq + e.place <= after + span
    ORDER BY number LIMIT most;
END $$;

CREATE OR REPLACE FUNCTION numbered_sums(after bigint, upto bigint, most bigint) RETURNS TABLE (
    last_seq bigint, type_name text, account bigint, tuple text, hour timestamptz, debit text, credit text, events bigint
) STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months'));
    RETURN QUERY
    WITH chosen AS MATERIALIZED (
        SELECT * FROM (
            SELECT b.*, sum(b.events) OVER (ORDER BY b.first_seq) - b.events AS before FROM (
                SELECT * FROM batches WHERE first_seq > after AND first_seq <= upto ORDER BY first_seq LIMIT 5000
            ) b
        ) c WHERE before < most
    ), sums AS (
        SELECT e.account_id, e.tuple_id, date_bin('1 hour', e.dt, 'epoch'::timestamptz) AS hour,
               trunc(coalesce(sum(e.debit), 0) * 1000000000)::text AS debit,
               trunc(coalesce(sum(e.credit), 0) * 1000000000)::text AS credit, count(*) AS events
        FROM chosen b CROSS JOIN LATERAL (
            SELECT * FROM events x WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt
        ) e GROUP BY 1, 2, 3
    )
    SELECT u.last_seq, a.type, s.account_id, t.canonical, s.hour, s.debit, s.credit, s.events
    FROM (SELECT max(first_seq + events - 1) AS last_seq FROM chosen) u
    LEFT JOIN (sums s JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id)) ON true
    WHERE u.last_seq IS NOT NULL;
END $$;

CREATE OR REPLACE FUNCTION first_kept_seq(after bigint) RETURNS bigint STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months'));
    RETURN (
        SELECT b.first_seq FROM batches b
        WHERE b.first_seq > after AND EXISTS (
            SELECT FROM events e WHERE e.batch_id = b.batch_id AND e.dt BETWEEN b.first_dt AND b.last_dt
        ) ORDER BY b.first_seq LIMIT 1
    );
END $$;

-- What `account_sums` answers, behind the gate; with events told apart by their combinations of attributes (`by_tuple`), or
-- all as one sum, of no combination (null).
CREATE FUNCTION account_parts(
    account bigint, wanted_type text, wanted_attributes text, wanted_interval text,
    year timestamptz, month timestamptz, day timestamptz, cut_off timestamptz, at timestamptz, most_lag bigint,
    by_tuple boolean
) RETURNS TABLE (part "char", tuple bigint, debit numeric, credit numeric, events bigint) STABLE LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    g groupings;
    lag bigint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months'));
    SELECT * INTO g FROM groupings
    WHERE type = wanted_type AND attributes = wanted_attributes AND interval = wanted_interval;
    IF FOUND THEN
        lag := (SELECT last_seq FROM sequence) - g.aggregated_seq
            + coalesce((SELECT sum(b.events) FROM pending_batches b WHERE b.first_dt < cut_off), 0);
    END IF;
    -- A grouping that is new does not have the dropped events' sums yet.
    IF g.aggregated_seq = 0 AND EXISTS (SELECT FROM closing_balances c WHERE c.account_id = account) THEN
        lag := NULL;
    END IF;
    IF lag IS NULL OR lag > most_lag THEN
        RETURN QUERY
        SELECT 's'::"char", CASE WHEN by_tuple THEN e.tuple_id END, sum(e.debit), sum(e.credit), count(*) FROM events e
        WHERE e.account_id = account AND e.dt < at GROUP BY 2;
        RETURN QUERY
        SELECT 's'::"char", c.tuple_id, c.debit, c.credit, c.events FROM closing_balances c WHERE c.account_id = account;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'a'::"char", p.group_id, sum(p.debit), sum(p.credit), sum(p.events)::bigint FROM (
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'y' AND a.period < year
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'm'
          AND a.period >= year AND a.period < month
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'd'
          AND a.period >= month AND a.period < day
        UNION ALL
        SELECT a.group_id, a.debit, a.credit, a.events FROM aggregates a
        WHERE a.account_id = account AND a.grouping_id = g.grouping_id AND a.level = 'h'
          AND a.period >= day AND a.period < cut_off
    ) p GROUP BY p.group_id;
    RETURN QUERY
    SELECT 's'::"char", CASE WHEN by_tuple THEN e.tuple_id END, sum(e.debit), sum(e.credit), count(*) FROM events e
    WHERE e.account_id = account AND e.dt >= cut_off AND e.dt < at GROUP BY 2;
    IF lag = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'l'::"char", CASE WHEN by_tuple THEN e.tuple_id END, sum(e.debit), sum(e.credit), count(*)
    FROM (SELECT batch_id, first_dt, last_dt FROM pending_batches WHERE first_dt < cut_off
          UNION ALL
          SELECT batch_id, first_dt, last_dt FROM batches WHERE first_seq > g.aggregated_seq AND first_dt < cut_off) b
    CROSS JOIN LATERAL (
        SELECT * FROM events x
        WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt AND x.dt < cut_off AND x.account_id = account
    ) e GROUP BY 2;
END $$;

-- As before: older programs ask it, too.
CREATE OR REPLACE FUNCTION account_sums(
    account bigint, wanted_type text, wanted_attributes text, wanted_interval text,
    year timestamptz, month timestamptz, day timestamptz, cut_off timestamptz, at timestamptz, most_lag bigint
) RETURNS TABLE (part "char", tuple bigint, debit numeric, credit numeric, events bigint) STABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM account_parts(
        account, wanted_type, wanted_attributes, wanted_interval, year, month, day, cut_off, at, most_lag, true
    );
END $$;

-- As before, behind the gate.
CREATE OR REPLACE FUNCTION write_events(
    keys uuid[], key_contents uuid[], key_events int[],
    parts int[], dts timestamptz[], account_ids bigint[], tuple_ids bigint[], event_ids text[],
    debits numeric[], credits numeric[], infos text[],
    new_account_ids bigint[], new_account_types text[], new_account_attributes text[],
    new_tuple_ids bigint[], new_tuple_canonicals text[], new_tuple_attributes text[]
) RETURNS TABLE (event int, status "char") LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    added int;
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
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added < cardinality(new_account_ids)
           AND EXISTS (SELECT FROM unnest(new_account_ids, new_account_types, new_account_attributes) AS n (id, type, attributes)
                       JOIN accounts a ON a.account_id = n.id WHERE (a.type, a.attributes) <> (n.type, n.attributes)) THEN
            RAISE 'two accounts with one id' USING ERRCODE = 'LC001';
        END IF;
    END IF;
    IF cardinality(new_tuple_ids) > 0 THEN
        INSERT INTO tuples SELECT id, canonical, attributes::jsonb
        FROM unnest(new_tuple_ids, new_tuple_canonicals, new_tuple_attributes) AS n (id, canonical, attributes)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added < cardinality(new_tuple_ids)
           AND EXISTS (SELECT FROM unnest(new_tuple_ids, new_tuple_canonicals) AS n (id, canonical)
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

    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months'));
    IF written IS NULL THEN
        INSERT INTO pending_batches (events, first_dt, last_dt)
        SELECT cardinality(dts), min(dt), max(dt) FROM unnest(dts) AS dt
        RETURNING batch_id INTO batch;
        INSERT INTO events (dt, account_id, tuple_id, batch_id, place, event_id, debit, credit, info)
        SELECT t.dt, t.account_id, t.tuple_id, batch, t.event - 1, t.event_id, t.debit, t.credit, t.info
        FROM unnest(dts, account_ids, tuple_ids, event_ids, debits, credits, infos)
             WITH ORDINALITY AS t (dt, account_id, tuple_id, event_id, debit, credit, info, event);
        RETURN;
    END IF;
    INSERT INTO pending_batches (events, first_dt, last_dt)
    SELECT count(*), min(t.dt), max(t.dt) FROM unnest(dts) WITH ORDINALITY AS t (dt, event)
    WHERE t.event IN (SELECT unnest(written))
    RETURNING batch_id INTO batch;
    INSERT INTO events (dt, account_id, tuple_id, batch_id, place, event_id, debit, credit, info)
    SELECT t.dt, t.account_id, t.tuple_id, batch, row_number() OVER (ORDER BY t.event) - 1,
           t.event_id, t.debit, t.credit, t.info
    FROM unnest(dts, account_ids, tuple_ids, event_ids, debits, credits, infos)
         WITH ORDINALITY AS t (dt, account_id, tuple_id, event_id, debit, credit, info, event)
    WHERE t.event IN (SELECT unnest(written));
END $$;

-- A page of an account's events in the order of (dt, event_id), after one of them if it is given.
CREATE FUNCTION list_events(
    account bigint, since timestamptz, before timestamptz, after_dt timestamptz, after_id text, most bigint
) RETURNS TABLE (dt timestamptz, event_id text, auxiliary text, debit numeric, credit numeric, info text) STABLE LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.event_months'));
    RETURN QUERY
    SELECT e.dt, e.event_id, t.canonical, e.debit, e.credit, e.info
    FROM (
        SELECT * FROM events
        WHERE account_id = account AND dt >= since AND dt < before
          AND (after_dt IS NULL OR (dt, event_id) > (after_dt, after_id COLLATE "C"))
        ORDER BY dt, event_id LIMIT most
    ) e JOIN tuples t USING (tuple_id) ORDER BY e.dt, e.event_id;
END $$;

-- Events with greater numbers than this one have never been dropped: of their batches, all must be found. (A table of its
-- own: to change `horizon` would wait for whoever reads it, and let everybody wait.)
CREATE TABLE event_gaps (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    upto bigint NOT NULL
);
CREATE FUNCTION note_gaps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE event_gaps SET upto = last_seq FROM sequence;
    RETURN NULL;
END $$;
CREATE TRIGGER note_gaps AFTER UPDATE ON horizon FOR EACH ROW WHEN (new.drops > old.drops) EXECUTE FUNCTION note_gaps();
INSERT INTO event_gaps (upto) SELECT CASE WHEN h.drops > 0 THEN s.last_seq ELSE 0 END FROM horizon h, sequence s;

-- As before, but waits for a month that is being dropped first, and not while it keeps new ones out.
CREATE OR REPLACE FUNCTION note_dropped_events() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM horizon FOR UPDATE;
    UPDATE horizon h SET dropped_seq = k.dropped_seq
    FROM (SELECT coalesce(first_kept_seq(h.dropped_seq) - 1, s.last_seq) AS dropped_seq FROM sequence s, horizon h WHERE h.drops > 0) k
    WHERE h.dropped_seq < k.dropped_seq;
END $$;
