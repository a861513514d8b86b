SELECT pg_temp.mutate('record_export', $old$NOT lease_held(lease, held_epoch)$old$, $new$false$new$);
