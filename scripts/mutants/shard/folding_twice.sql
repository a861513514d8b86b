SELECT pg_temp.mutate('fold_aggregates', $old$ AND aggregated_seq = expected$old$, $new$$new$);
