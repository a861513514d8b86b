SELECT pg_temp.mutate('next_in_line', $old$ORDER BY l.place$old$, $new$ORDER BY l.place DESC$new$);
