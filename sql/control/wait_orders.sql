-- Records attempts of orders that will be tried again (parallel arrays, sorted by order id; `tries` is the
-- number of attempts so far). Returns the ids of those that have callback data, perhaps since a moment ago.
-- The state only increases; orders in a final state (4, 5) are left unchanged and not returned.
-- Locks: the orders, in the order of `ids`. The row locks order this with store_callbacks: a callback that is
-- not seen here is stored after the caller's commit and finds the order's job.
-- Planner: see accept_orders.
CREATE OR REPLACE FUNCTION wait_orders(
    ids int[], tries int[], starts timestamptz[], externals timestamptz[], reasons text[], states smallint[]
) RETURNS SETOF int LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    updated record;
BEGIN
    FOR updated IN
        UPDATE control.orders o
        SET state = greatest(o.state, t.state), attempts = t.tries, started_at = coalesce(o.started_at, t.started),
            external_at = t.external, last_error = t.reason
        FROM unnest(ids, tries, starts, externals, reasons, states) AS t (id, tries, started, external, reason, state)
        WHERE o.order_id = t.id AND o.state < 4
        RETURNING o.order_id, o.storage_id
    LOOP
        IF updated.storage_id <> 0 THEN
            RETURN NEXT updated.order_id;
        END IF;
    END LOOP;
END $$;
