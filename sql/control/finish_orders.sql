-- Ends attempts that went well (sorted by order), removes batches of which nothing is left, and leaves word of the ends.
CREATE OR REPLACE FUNCTION control.finish_orders(ids int[], tries int[], starts timestamptz[], externals timestamptz[], done uuid[])
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
        -- Some had ended before: that has been told.
        INSERT INTO control.order_outcomes (processed) VALUES (control.changed_orders(ids));
    END IF;
END $$;
