SELECT pg_temp.mutate('end_expired_locks', $old$l.expires_at <= moment$old$, $new$false$new$);
