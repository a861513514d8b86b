SELECT pg_temp.mutate('fifo_delete', $old$ AND m.receipt = p_receipt$old$, $new$$new$);
