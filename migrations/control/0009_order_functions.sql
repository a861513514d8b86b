-- The statements of an order's way as functions: planned once per connection, the common case apart, and always by the
-- key. A statement that is planned while its table is small joins by reading all of it, and goes on doing so.

-- Accepts the new ones of `ids` (sorted) into a lane. One row for each order that was there before, or a single row
-- without order; `held` is false, and nothing is changed, if the lane is lost. A request (a number for each order) with an
-- order of another product adds nothing. `mine`: this very batch was stored before (its answer was lost), so the order
-- is new. An order that appears meanwhile fails the statement, which is then repeated and finds it.
CREATE FUNCTION accept_orders(
    batch uuid, into_lane bigint, held_epoch bigint, ids int[], products int[], requests int[]
) RETURNS TABLE (
    now timestamptz, held boolean, order_id int, product_id int, state smallint, storage_id int, pickup_point_id int, mine boolean
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM leases l WHERE l.lease_id = into_lane AND l.epoch = held_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT now(), false, null::int, null::int, null::smallint, null::int, null::int, null::boolean;
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM unnest(ids) AS i (id) JOIN orders o ON o.order_id = i.id) THEN
        INSERT INTO orders (order_id, product_id, state, accepted_at)
        SELECT i.id, i.product, 1, now() FROM unnest(ids, products) AS i (id, product);
        INSERT INTO accepted_batches (batch_id, lane, order_ids) VALUES (batch, into_lane, ids);
        RETURN QUERY SELECT now(), true, null::int, null::int, null::smallint, null::int, null::int, null::boolean;
        RETURN;
    END IF;
    RETURN QUERY
    WITH input AS MATERIALIZED (
        SELECT * FROM unnest(ids, products, requests) AS t (order_id, product_id, request)
    ), stored AS MATERIALIZED (
        SELECT unnest(b.order_ids) AS order_id FROM accepted_batches b WHERE b.batch_id = batch
    ), found AS MATERIALIZED (
        -- A callback that came after the order had failed is kept for a retry, and does not change the answer.
        SELECT o.order_id, o.product_id, o.state, o.storage_id,
               CASE WHEN o.state = 5 AND o.external_at IS NULL THEN 0 ELSE o.pickup_point_id END AS pickup_point_id,
               o.product_id <> i.product_id AS other, i.request, o.order_id IN (SELECT s.order_id FROM stored s) AS mine
        FROM input i JOIN orders o ON o.order_id = i.order_id
    ), fresh AS MATERIALIZED (
        SELECT i.order_id, i.product_id FROM input i
        WHERE i.order_id NOT IN (SELECT f.order_id FROM found f)
          AND i.request NOT IN (SELECT f.request FROM found f WHERE f.other)
    ), batches AS (
        INSERT INTO accepted_batches (batch_id, lane, order_ids)
        SELECT batch, into_lane, array_agg(f.order_id) FROM fresh f HAVING count(*) > 0
    ), added AS (
        INSERT INTO orders (order_id, product_id, state, accepted_at) SELECT f.order_id, f.product_id, 1, now() FROM fresh f
    )
    SELECT now(), true, f.order_id, f.product_id, f.state, f.storage_id, f.pickup_point_id, f.mine FROM found f;
END $$;

-- Stores callbacks (sorted by order): each order whose data this became, with zeros for it; and, if there are others,
-- each known order with what is stored. The row's lock decides between replicas: whoever comes second finds the data.
CREATE FUNCTION store_callbacks(ids int[], storages int[], pickups int[]) RETURNS TABLE (
    order_id int, storage_id int, pickup_point_id int, data_at timestamptz, posting_rules int, stored_now boolean
) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    rules int := coalesce((SELECT max(version) FROM posting_rules), 0);
    stored int;
BEGIN
    RETURN QUERY
    UPDATE orders o SET storage_id = i.storage_id, pickup_point_id = i.pickup_point_id, data_at = now(), posting_rules = rules
    FROM unnest(ids, storages, pickups) AS i (order_id, storage_id, pickup_point_id)
    WHERE o.order_id = i.order_id AND o.storage_id = 0
    RETURNING o.order_id, 0, 0, o.data_at, o.posting_rules, true;
    GET DIAGNOSTICS stored = ROW_COUNT;
    IF stored < cardinality(ids) THEN
        RETURN QUERY
        SELECT o.order_id, o.storage_id, o.pickup_point_id, o.data_at, o.posting_rules, false
        FROM unnest(ids) AS i (order_id) JOIN orders o ON o.order_id = i.order_id;
    END IF;
END $$;

-- Ends attempts that went well (sorted by order), and removes batches of which nothing is left.
CREATE FUNCTION finish_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], done uuid[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    IF cardinality(done) > 0 THEN
        DELETE FROM accepted_batches WHERE batch_id = ANY (done);
    END IF;
    UPDATE orders o
    SET state = 4, attempts = t.tries, started_at = coalesce(o.started_at, t.started), external_at = t.external,
        finished_at = now(), last_error = NULL
    FROM unnest(ids, tries, starts, externals) AS t (id, tries, started, external)
    WHERE o.order_id = t.id AND o.state < 4;
END $$;

-- Ends attempts of orders that failed for good.
CREATE FUNCTION fail_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], reasons text[])
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    UPDATE orders o
    SET state = 5, attempts = t.tries, started_at = coalesce(o.started_at, t.started), external_at = t.external,
        failed_at = array_append(o.failed_at, now()), last_error = t.reason
    FROM unnest(ids, tries, starts, externals, reasons) AS t (id, tries, started, external, reason)
    WHERE o.order_id = t.id AND o.state < 4;
END $$;

-- Ends attempts of orders that are tried again; answers those that have their data, perhaps since a moment ago.
CREATE FUNCTION wait_orders(
    ids int[], tries int[], starts timestamptz[], externals timestamptz[], reasons text[], states smallint[]
) RETURNS SETOF int LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    updated record;
BEGIN
    FOR updated IN
        UPDATE orders o
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
