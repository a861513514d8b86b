-- Accepts the new orders of `ids` (sorted, each once) into a lane. `requests` numbers the request of each
-- order.
--
-- - Result: one row for each order that existed, or a single row without an order. `now` is the transaction's
--   time. `held` is false, and nothing is written, if the lease (`into_lane`, `held_epoch`) is lost. `mine`:
--   the order is in the stored batch `batch`: an earlier call has committed and its answer was lost.
-- - A request with an existing order of another product adds nothing.
-- - Cost: the common case, no order exists, is two plain inserts.
-- - Locks: the lease row (FOR SHARE), then the orders in the order of `ids`.
-- - Errors: 23505 if a concurrent transaction inserts one of the orders; a retry finds it.
-- - Planner: one generic plan per connection, with index lookups and nested loops only. A plan made while the
--   table is small would be a sequential scan with a hash join, and stay cached while the table grows.
CREATE OR REPLACE FUNCTION accept_orders(
    batch uuid, into_lane bigint, held_epoch bigint, ids int[], products int[], requests int[]
) RETURNS TABLE (
    now timestamptz, held boolean, order_id int, product_id int, state smallint, storage_id int, pickup_point_id int, mine boolean
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM control.leases l WHERE l.lease_id = into_lane AND l.epoch = held_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT now(), false, null::int, null::int, null::smallint, null::int, null::int, null::boolean;
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM unnest(ids) AS i (id) JOIN control.orders o ON o.order_id = i.id) THEN
        INSERT INTO control.orders (order_id, product_id, state, accepted_at)
        SELECT i.id, i.product, 1, now() FROM unnest(ids, products) AS i (id, product);
        INSERT INTO control.accepted_batches (batch_id, lane, order_ids) VALUES (batch, into_lane, ids);
        RETURN QUERY SELECT now(), true, null::int, null::int, null::smallint, null::int, null::int, null::boolean;
        RETURN;
    END IF;
    RETURN QUERY
    WITH input AS MATERIALIZED (
        SELECT * FROM unnest(ids, products, requests) AS t (order_id, product_id, request)
    ), stored AS MATERIALIZED (
        SELECT unnest(b.order_ids) AS order_id FROM control.accepted_batches b WHERE b.batch_id = batch
    ), found AS MATERIALIZED (
        -- A callback stored after the order failed is kept for a retry and not shown: 0 hides it.
        SELECT o.order_id, o.product_id, o.state, o.storage_id,
               CASE WHEN o.state = 5 AND o.external_at IS NULL THEN 0 ELSE o.pickup_point_id END AS pickup_point_id,
               o.product_id <> i.product_id AS other, i.request, o.order_id IN (SELECT s.order_id FROM stored s) AS mine
        FROM input i JOIN control.orders o ON o.order_id = i.order_id
    ), fresh AS MATERIALIZED (
        SELECT i.order_id, i.product_id FROM input i
        WHERE i.order_id NOT IN (SELECT f.order_id FROM found f)
          AND i.request NOT IN (SELECT f.request FROM found f WHERE f.other)
    ), batches AS (
        INSERT INTO control.accepted_batches (batch_id, lane, order_ids)
        SELECT batch, into_lane, array_agg(f.order_id) FROM fresh f HAVING count(*) > 0
    ), added AS (
        INSERT INTO control.orders (order_id, product_id, state, accepted_at) SELECT f.order_id, f.product_id, 1, now() FROM fresh f
    )
    SELECT now(), true, f.order_id, f.product_id, f.state, f.storage_id, f.pickup_point_id, f.mine FROM found f;
END $$;
