SELECT pg_temp.mutate('fifo_send', $old$d.sent_at <= moment - interval '5 minutes';$old$, $new$true;$new$);
