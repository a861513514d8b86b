-- Takes the advisory lock of a lock key until the end of the transaction; it serializes all changes of the
-- key.
CREATE OR REPLACE FUNCTION take_turn(p_key uuid) RETURNS void LANGUAGE sql AS
    $$ SELECT pg_advisory_xact_lock(hashtextextended(p_key::text, 20240229)) $$;
