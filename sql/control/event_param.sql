-- The value at a place in an event's params: a name, or names of nested objects, which filters join by two underscores, as they may
-- themselves have. The same that conditions, joins and templates go by (`params::at`): the whole name first, then the shortest first.
CREATE OR REPLACE FUNCTION control.event_param(params jsonb, steps text[]) RETURNS jsonb
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
