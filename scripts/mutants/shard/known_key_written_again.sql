SELECT pg_temp.mutate('write_events', $old$WHEN k.key IN (SELECT unnest(fresh)) THEN '+'$old$, $new$WHEN true THEN '+'$new$);
