SELECT pg_temp.mutate('finish_orders', $old$cardinality(done) > 0$old$, $new$false$new$);
