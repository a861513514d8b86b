SELECT pg_temp.mutate('month_is_needed', $old$"public".month_goes_on(month, exported)$old$, $new$false$new$);
