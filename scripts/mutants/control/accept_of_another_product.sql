SELECT pg_temp.mutate('accept_orders', $old$o.product_id <> i.product_id AS other$old$, $new$false AS other$new$);
