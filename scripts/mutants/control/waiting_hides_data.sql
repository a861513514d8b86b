SELECT pg_temp.mutate('wait_orders', $old$updated.storage_id <> 0$old$, $new$false$new$);
