-- Key of the advisory lock of a message group. Under it a group gets its first message and loses its head.
CREATE OR REPLACE FUNCTION fifo_turn(p_queue int, p_group text) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$
    SELECT hashtextextended('fifo/' || p_queue || '/' || p_group, 0)
$$;
