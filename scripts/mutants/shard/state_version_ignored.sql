SELECT pg_temp.mutate('put_states', $old$coalesce(put.expected, now_version) = now_version$old$, $new$true$new$);
