-- Puts states, in the order of their keys, and answers for each (its place in the arrays, from 1) the version there is
-- now, 0 for none, and whether it is what this put made, now or before. Undoing the others of a batch is the caller's.
CREATE OR REPLACE FUNCTION shard.put_states(
    keys uuid[], types text[], attributes text[], states text[], contents uuid[], expected_versions bigint[]
) RETURNS TABLE (place int, now_version bigint, done boolean) LANGUAGE plpgsql AS $$
DECLARE
    put record;
    found_state record;
BEGIN
    FOR put IN
        SELECT * FROM unnest(keys, types, attributes, states, contents, expected_versions)
            WITH ORDINALITY AS p (key, type, attributes, state, content, expected, place)
        ORDER BY p.key, p.place
    LOOP
        place := put.place;
        LOOP
            SELECT s.version, s.content, s.expected INTO found_state
            FROM shard.states s WHERE s.key = put.key FOR NO KEY UPDATE;
            IF FOUND THEN
                now_version := found_state.version;
                done := found_state.content = put.content AND found_state.expected IS NOT DISTINCT FROM put.expected;
                IF NOT done AND coalesce(put.expected, now_version) = now_version THEN
                    UPDATE shard.states s SET version = s.version + 1, state = put.state, content = put.content,
                                        expected = put.expected
                    WHERE s.key = put.key RETURNING s.version INTO now_version;
                    done := true;
                END IF;
                EXIT;
            ELSIF put.expected > 0 THEN
                now_version := 0;
                done := false;
                EXIT;
            END IF;
            INSERT INTO shard.states (key, type, attributes, version, state, content, expected)
            VALUES (put.key, put.type, put.attributes, 1, put.state, put.content, put.expected)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                now_version := 1;
                done := true;
                EXIT;
            END IF;
            -- Somebody else has just created it: look again.
        END LOOP;
        RETURN NEXT;
    END LOOP;
END $$;
