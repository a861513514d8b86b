-- Puts states, in the order of their keys.
--
-- - Parameters: parallel arrays; `contents` are fingerprints; `expected_versions`: the version to replace, 0
--   if the state must not exist, NULL for any.
-- - Result, for each put: `place` in the arrays (from 1), the version after the put (0: no state), and
--   whether that is the put's own, made now or by an earlier call. A put that fails does not undo the others:
--   the caller rolls back.
-- - Locks: the states' rows, sorted by key.
CREATE OR REPLACE FUNCTION put_states(
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
            -- Created by a concurrent transaction: read it.
        END LOOP;
        RETURN NEXT;
    END LOOP;
END $$;
