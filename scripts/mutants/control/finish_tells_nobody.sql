SELECT pg_temp.mutate('finish_orders', $old$INSERT INTO "public".order_outcomes (processed) VALUES (ids);$old$, $new$NULL;$new$);
