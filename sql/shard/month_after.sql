-- The start of the following month (UTC).
CREATE OR REPLACE FUNCTION month_after(month timestamptz) RETURNS timestamptz IMMUTABLE LANGUAGE sql AS $$
    SELECT (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
$$;
