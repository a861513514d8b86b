SELECT pg_temp.mutate('store_callbacks', $old$ AND o.storage_id = 0$old$, $new$$new$);
