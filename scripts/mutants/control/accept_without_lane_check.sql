SELECT pg_temp.mutate('accept_orders', $old$IF NOT FOUND THEN$old$, $new$IF false THEN$new$);
