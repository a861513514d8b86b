SELECT pg_temp.mutate('enqueue_dependent_jobs', $old$(l.group_turn > 1 OR l.old_lane IS NOT NULL) AS blocked$old$, $new$false AS blocked$new$);
