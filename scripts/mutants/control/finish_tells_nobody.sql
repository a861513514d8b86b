SELECT pg_temp.mutate('finish_orders', $old$INSERT INTO order_outcomes (processed) VALUES (ids);$old$, $new$NULL;$new$);
