-- Stores callbacks (sorted by order): each order whose data this became, with zeros for it; and, if there are others,
-- each known order with what is stored. The row's lock decides between replicas: whoever comes second finds the data.
CREATE OR REPLACE FUNCTION control.store_callbacks(ids int[], storages int[], pickups int[]) RETURNS TABLE (
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
