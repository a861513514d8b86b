SELECT pg_temp.mutate('fold_aggregates', $old$NOT "public".lease_held(lease, held_epoch)$old$, $new$false$new$);
