-- Marks orders as finished (state 4), writes them to the outbox `order_outcomes`, and deletes the accepted
-- batches `done`, of which no order is left. Parallel arrays, sorted by order id; `tries` is the number of
-- attempts so far. Orders in a final state (4, 5) are left unchanged and not reported, so a retry has no
-- effect. Not to be called in a subtransaction (see changed_orders).
-- Locks: the batches, then the orders in the order of `ids`. Planner: see accept_orders.
CREATE OR REPLACE FUNCTION finish_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], done uuid[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ended int;
BEGIN
    IF cardinality(done) > 0 THEN
        DELETE FROM control.accepted_batches WHERE batch_id = ANY (done);
    END IF;
    UPDATE control.orders o
    SET state = 4, attempts = t.tries, started_at = coalesce(o.started_at, t.started), external_at = t.external,
        finished_at = now(), last_error = NULL
    FROM unnest(ids, tries, starts, externals) AS t (id, tries, started, external)
    WHERE o.order_id = t.id AND o.state < 4;
    GET DIAGNOSTICS ended = ROW_COUNT;
    IF ended = cardinality(ids) AND ended > 0 THEN
        INSERT INTO control.order_outcomes (processed) VALUES (ids);
    ELSIF ended > 0 THEN
        -- The others were in a final state and have been reported.
        INSERT INTO control.order_outcomes (processed) VALUES (control.changed_orders(ids));
    END IF;
END $$;
