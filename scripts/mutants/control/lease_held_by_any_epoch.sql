SELECT pg_temp.mutate('lease_held', $old$ AND epoch = held_epoch$old$, $new$$new$);
