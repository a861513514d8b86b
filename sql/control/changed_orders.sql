-- Those of `ids` that this transaction has changed, in their order.
CREATE OR REPLACE FUNCTION control.changed_orders(ids int[]) RETURNS int[] LANGUAGE sql AS $$
    SELECT array_agg(o.order_id ORDER BY i.n) FROM unnest(ids) WITH ORDINALITY AS i (id, n) JOIN control.orders o ON o.order_id = i.id
    WHERE o.xmin::text = (pg_current_xact_id()::text::bigint & 4294967295)::text
$$;
