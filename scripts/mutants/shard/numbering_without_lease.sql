SELECT pg_temp.mutate('number_batches', $old$NOT "public".lease_held(lease, held_epoch)$old$, $new$false$new$);
