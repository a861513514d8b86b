SELECT pg_temp.mutate('record_export', $old$NOT "public".lease_held(lease, held_epoch)$old$, $new$false$new$);
