-- Marks orders as failed (state 5) and writes them to the outbox `order_outcomes`. Parallel arrays, sorted by
-- order id; `tries` is the number of attempts so far. Orders in a final state (4, 5) are left unchanged and
-- not reported, so a retry has no effect. Not to be called in a subtransaction (see changed_orders).
-- Locks: the orders, in the order of `ids`. Planner: see accept_orders.
CREATE OR REPLACE FUNCTION fail_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], reasons text[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    ended int[];
BEGIN
    UPDATE control.orders o
    SET state = 5, attempts = t.tries, started_at = coalesce(o.started_at, t.started), external_at = t.external,
        failed_at = array_append(o.failed_at, now()), last_error = t.reason
    FROM unnest(ids, tries, starts, externals, reasons) AS t (id, tries, started, external, reason)
    WHERE o.order_id = t.id AND o.state < 4;
    ended := control.changed_orders(ids);
    IF cardinality(ended) > 0 THEN
        INSERT INTO control.order_outcomes (failed, attempts, reasons)
        SELECT array_agg(t.id ORDER BY n), array_agg(t.tries ORDER BY n), array_agg(coalesce(t.reason, '') ORDER BY n)
        FROM unnest(ids, tries, reasons) WITH ORDINALITY AS t (id, tries, reason, n) WHERE t.id = ANY (ended);
    END IF;
END $$;
