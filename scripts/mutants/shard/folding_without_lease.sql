SELECT pg_temp.mutate('fold_aggregates', $old$NOT lease_held(lease, held_epoch)$old$, $new$false$new$);
