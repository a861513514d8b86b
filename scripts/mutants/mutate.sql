-- What the mutants of the SQL functions are made with: in the present definition of `name`, `old` becomes `new`. The tests' functions are in the
-- schema "public", which qualifies each name in them.
CREATE FUNCTION pg_temp.mutate(name text, old text, new text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    definition text := pg_get_functiondef(name::regproc);
BEGIN
    IF strpos(definition, old) = 0 THEN
        RAISE 'the function % has nothing like %', name, old;
    END IF;
    EXECUTE replace(definition, old, new);
END $$;
