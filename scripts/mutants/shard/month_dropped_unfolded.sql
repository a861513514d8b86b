SELECT pg_temp.mutate('month_is_needed', $old$"public".month_goes_on(month, aggregated)$old$, $new$false$new$);
