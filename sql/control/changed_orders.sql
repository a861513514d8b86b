-- Those of `ids` whose rows the current transaction has changed, in the order of `ids`; NULL if none.
-- Compares `xmin` with the transaction id (32 bits): rows changed in a subtransaction are not found.
CREATE OR REPLACE FUNCTION changed_orders(ids int[]) RETURNS int[] LANGUAGE sql AS $$
    SELECT array_agg(o.order_id ORDER BY i.n) FROM unnest(ids) WITH ORDINALITY AS i (id, n) JOIN control.orders o ON o.order_id = i.id
    WHERE o.xmin::text = (pg_current_xact_id()::text::bigint & 4294967295)::text
$$;
