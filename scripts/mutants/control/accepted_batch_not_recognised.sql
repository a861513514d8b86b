SELECT pg_temp.mutate('accept_orders', $old$o.order_id IN (SELECT s.order_id FROM stored s) AS mine$old$, $new$false AS mine$new$);
