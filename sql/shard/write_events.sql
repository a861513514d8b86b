-- Writes the parts of several callers in one transaction, each part all or nothing.
--
-- - Parameters: `keys` sorted, each once; `key_events` is the place (from 1) of a key's event in the event
--   arrays, which are in the order of the callers; `parts` numbers the part of each event. New accounts and
--   attribute sets may exist already.
-- - Result: a row for each event that was not written: its place, and 'd' (duplicate), 'c' (conflict: the key
--   has other content) or 'n' (another event of its part conflicts).
-- - Cost: the common case, no key exists, is three plain inserts, without a sort.
-- - Locks: accounts, attribute sets, keys, each sorted by the caller; then the gate, shared (see
--   create_event_months).
-- - Errors: LC001 if two accounts or attribute sets have one id (hash collision); 23514 if an event's month
--   has no partition.
-- - Planner: one generic plan per connection, with index lookups and nested loops only. A plan made while the
--   tables are small would read them sequentially, and stay cached while they grow.
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
    -- Places of the new events; NULL: all are new.
    written int[];
    batch bigint;
BEGIN
    IF cardinality(new_account_ids) > 0 THEN
        INSERT INTO shard.accounts SELECT * FROM unnest(new_account_ids, new_account_types, new_account_attributes)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added < cardinality(new_account_ids)
           AND EXISTS (SELECT FROM unnest(new_account_ids, new_account_types, new_account_attributes) AS n (id, type, attributes)
                       JOIN shard.accounts a ON a.account_id = n.id WHERE (a.type, a.attributes) <> (n.type, n.attributes)) THEN
            RAISE 'two accounts with one id' USING ERRCODE = 'LC001';
        END IF;
    END IF;
    IF cardinality(new_tuple_ids) > 0 THEN
        INSERT INTO shard.tuples SELECT id, canonical, attributes::jsonb
        FROM unnest(new_tuple_ids, new_tuple_canonicals, new_tuple_attributes) AS n (id, canonical, attributes)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added < cardinality(new_tuple_ids)
           AND EXISTS (SELECT FROM unnest(new_tuple_ids, new_tuple_canonicals) AS n (id, canonical)
                       JOIN shard.tuples t ON t.tuple_id = n.id WHERE t.canonical <> n.canonical) THEN
            RAISE 'two attribute combinations with one id' USING ERRCODE = 'LC001';
        END IF;
    END IF;

    BEGIN
        INSERT INTO shard.event_keys SELECT * FROM unnest(keys, key_contents);
    EXCEPTION WHEN unique_violation THEN
        -- Some keys exist. This waits for concurrent writers of the same keys; the next statement sees the
        -- outcome.
        WITH inserted AS (
            INSERT INTO shard.event_keys SELECT * FROM unnest(keys, key_contents) ON CONFLICT DO NOTHING RETURNING key
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
                    LEFT JOIN shard.event_keys s ON s.key = k.key) v) j;
        DELETE FROM shard.event_keys e
        USING unnest(judged_keys, judged) AS j (key, verdict) WHERE j.verdict = 'n' AND e.key = j.key;
        RETURN QUERY SELECT j.event, j.verdict FROM unnest(judged_events, judged) AS j (event, verdict)
                     WHERE j.verdict <> '+';
        SELECT coalesce(array_agg(j.event), '{}') INTO written
        FROM unnest(judged_events, judged) AS j (event, verdict) WHERE j.verdict = '+';
        IF cardinality(written) = 0 THEN
            RETURN;
        END IF;
    END;

    PERFORM pg_advisory_xact_lock_shared(hashtext('shard.event_months'));
    IF written IS NULL THEN
        INSERT INTO shard.pending_batches (events, first_dt, last_dt)
        SELECT cardinality(dts), min(dt), max(dt) FROM unnest(dts) AS dt
        RETURNING batch_id INTO batch;
        INSERT INTO shard.events (dt, account_id, tuple_id, batch_id, place, event_id, debit, credit, info)
        SELECT t.dt, t.account_id, t.tuple_id, batch, t.event - 1, t.event_id, t.debit, t.credit, t.info
        FROM unnest(dts, account_ids, tuple_ids, event_ids, debits, credits, infos)
             WITH ORDINALITY AS t (dt, account_id, tuple_id, event_id, debit, credit, info, event);
        RETURN;
    END IF;
    INSERT INTO shard.pending_batches (events, first_dt, last_dt)
    SELECT count(*), min(t.dt), max(t.dt) FROM unnest(dts) WITH ORDINALITY AS t (dt, event)
    WHERE t.event IN (SELECT unnest(written))
    RETURNING batch_id INTO batch;
    INSERT INTO shard.events (dt, account_id, tuple_id, batch_id, place, event_id, debit, credit, info)
    SELECT t.dt, t.account_id, t.tuple_id, batch, row_number() OVER (ORDER BY t.event) - 1,
           t.event_id, t.debit, t.credit, t.info
    FROM unnest(dts, account_ids, tuple_ids, event_ids, debits, credits, infos)
         WITH ORDINALITY AS t (dt, account_id, tuple_id, event_id, debit, credit, info, event)
    WHERE t.event IN (SELECT unnest(written));
END $$;
