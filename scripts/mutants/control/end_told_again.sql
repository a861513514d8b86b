SELECT pg_temp.mutate('finish_orders', $old$ended = cardinality(ids) AND ended > 0$old$, $new$true$new$);
