SELECT pg_temp.mutate('refuse_change', $old$RAISE 'a row of % is never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';$old$, $new$RETURN NULL;$new$);
