SELECT pg_temp.mutate('fail_orders', $old$o.state < 4$old$, $new$true$new$);
