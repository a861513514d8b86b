SELECT pg_temp.mutate('finish_orders', $old$o.state < 4$old$, $new$true$new$);
