-- Orders that have ended and whose events (orderProcessed, orderFailed) are still to be written: one row for each statement
-- that ended orders, in that statement, however many they were. Whoever writes the events removes the rows in the same
-- transaction; so there is no cursor that could pass a late commit by.
CREATE TABLE order_outcomes (
    outcome_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    processed int[] NOT NULL DEFAULT '{}',
    failed int[] NOT NULL DEFAULT '{}',
    -- Of the failed ones, as it was then: an operator may revive them.
    attempts int[] NOT NULL DEFAULT '{}',
    reasons text[] NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Those of `ids` that this transaction has changed, in their order.
CREATE FUNCTION changed_orders(ids int[]) RETURNS int[] LANGUAGE sql AS $$
    SELECT array_agg(o.order_id ORDER BY i.n) FROM unnest(ids) WITH ORDINALITY AS i (id, n) JOIN orders o ON o.order_id = i.id
    WHERE o.xmin::text = (pg_current_xact_id()::text::bigint & 4294967295)::text
$$;

-- Ends attempts that went well (sorted by order), removes batches of which nothing is left, and leaves word of the ends.
CREATE OR REPLACE FUNCTION finish_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], done uuid[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ended int;
BEGIN
    IF cardinality(done) > 0 THEN
        DELETE FROM accepted_batches WHERE batch_id = ANY (done);
    END IF;
    UPDATE orders o
    SET state = 4, attempts = t.tries, started_at = coalesce(o.started_at, t.started), external_at = t.external,
        finished_at = now(), last_error = NULL
    FROM unnest(ids, tries, starts, externals) AS t (id, tries, started, external)
    WHERE o.order_id = t.id AND o.state < 4;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended = cardinality(ids) AND ended > 0 THEN
        INSERT INTO order_outcomes (processed) VALUES (ids);
    ELSIF ended > 0 THEN
        -- Some had ended before: that has been told.
        INSERT INTO order_outcomes (processed) VALUES (changed_orders(ids));
    END IF;
END $$;

-- Ends attempts of orders that failed for good, and leaves word of it.
CREATE OR REPLACE FUNCTION fail_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], reasons text[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ended int[];
BEGIN
    UPDATE orders o
    SET state = 5, attempts = t.tries, started_at = coalesce(o.started_at, t.started), external_at = t.external,
        failed_at = array_append(o.failed_at, now()), last_error = t.reason
    FROM unnest(ids, tries, starts, externals, reasons) AS t (id, tries, started, external, reason)
    WHERE o.order_id = t.id AND o.state < 4;
    ended := changed_orders(ids);
    IF cardinality(ended) > 0 THEN
        INSERT INTO order_outcomes (failed, attempts, reasons)
        SELECT array_agg(t.id ORDER BY n), array_agg(t.tries ORDER BY n), array_agg(coalesce(t.reason, '') ORDER BY n)
        FROM unnest(ids, tries, reasons) WITH ORDINALITY AS t (id, tries, reason, n) WHERE t.id = ANY (ended);
    END IF;
END $$;
