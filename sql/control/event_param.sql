-- The value at a path in an event's params, or NULL. `steps` are the parts of the path, which filters write
-- joined by `__`. Names may contain `__` as well: the whole path is tried as one name first, then as a member
-- of a nested object, the shortest name first. Conditions, joins and templates follow the same rule
-- (`value_at_path`).
CREATE OR REPLACE FUNCTION event_param(params jsonb, steps text[]) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    found jsonb := params -> array_to_string(steps, '__');
    nested jsonb;
BEGIN
    IF found IS NOT NULL THEN
        RETURN found;
    END IF;
    FOR n IN 1 .. cardinality(steps) - 1 LOOP
        nested := params -> array_to_string(steps[1:n], '__');
        IF jsonb_typeof(nested) = 'object' THEN
            found := control.event_param(nested, steps[n + 1:]);
            IF found IS NOT NULL THEN
                RETURN found;
            END IF;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
