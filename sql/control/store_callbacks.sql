-- Stores callbacks (parallel arrays, sorted by order id, each order once); the first callback of an order
-- wins.
--
-- - Result: a row with `stored_now` and zero ids for each order whose data this call has stored. If these are
--   not all, also a row without `stored_now` for each order that exists, with the stored data. Unknown orders
--   have no row. `posting_rules` is the version in force, 0 if there is none.
-- - Locks: the orders, in the order of `ids`. A concurrent call for the same order waits and finds the data.
-- - Planner: see accept_orders.
CREATE OR REPLACE FUNCTION store_callbacks(ids int[], storages int[], pickups int[]) RETURNS TABLE (
    order_id int, storage_id int, pickup_point_id int, data_at timestamptz, posting_rules int, stored_now boolean
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    rules int := coalesce((SELECT max(version) FROM control.posting_rules), 0);
    stored int;
BEGIN
    RETURN QUERY
    UPDATE control.orders o SET storage_id = i.storage_id, pickup_point_id = i.pickup_point_id, data_at = now(), posting_rules = rules
    FROM unnest(ids, storages, pickups) AS i (order_id, storage_id, pickup_point_id)
    WHERE o.order_id = i.order_id AND o.storage_id = 0
    RETURNING o.order_id, 0, 0, o.data_at, o.posting_rules, true;
    GET DIAGNOSTICS stored = ROW_COUNT;
    IF stored < cardinality(ids) THEN
        RETURN QUERY
        SELECT o.order_id, o.storage_id, o.pickup_point_id, o.data_at, o.posting_rules, false
        FROM unnest(ids) AS i (order_id) JOIN control.orders o ON o.order_id = i.order_id;
    END IF;
END $$;
