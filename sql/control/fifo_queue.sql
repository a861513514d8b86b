-- The row of the queue `p_name`. Errors: FQ001 if there is no such queue.
CREATE OR REPLACE FUNCTION fifo_queue(p_name text) RETURNS control.fifo_queues STABLE LANGUAGE plpgsql AS $$
DECLARE
    found_queue control.fifo_queues;
BEGIN
    SELECT q.* INTO found_queue FROM control.fifo_queues q WHERE q.name = p_name;
    IF NOT FOUND THEN
        RAISE 'there is no queue %', p_name USING ERRCODE = 'FQ001';
    END IF;
    RETURN found_queue;
END $$;
