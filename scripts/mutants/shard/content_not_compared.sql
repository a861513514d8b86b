SELECT pg_temp.mutate('write_events', $old$WHEN s.content = k.content THEN 'd' ELSE 'c' END$old$, $new$ELSE 'd' END$new$);
