-- Deletes messages of dead-letter queues that have been visible for longer than `older_than`, the oldest of
-- each group first. Returns their number: `most` ends the run, and also bounds each group, so fewer than
-- twice `most`.
--
-- - Dead-letter queues: those that another queue refers to, and those named `*-dead.fifo`.
-- - Locks: does not wait. Groups that a concurrent transaction is changing are left for the next call.
-- - Planner: `fifo_queues` is read sequentially although this is disabled; the penalty in the plan's cost
--   would trigger JIT compilation, hence jit = off.
CREATE OR REPLACE FUNCTION fifo_forget_dead_letters(older_than interval, most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    dead control.fifo_queues;
    its_group text;
    gone int;
    forgotten int := 0;
BEGIN
    FOR dead IN SELECT * FROM control.fifo_queues q
                WHERE q.queue_id IN (SELECT dead_letters FROM control.fifo_queues) OR q.name LIKE '%-dead.fifo' LOOP
        FOR its_group IN
            SELECT n.group_id FROM control.fifo_messages n
            WHERE n.queue_id = dead.queue_id AND n.head AND n.visible_at < now() - older_than
            ORDER BY n.visible_at LIMIT most
        LOOP
            EXIT WHEN forgotten >= most;
            CONTINUE WHEN NOT pg_try_advisory_xact_lock(control.fifo_turn(dead.queue_id, its_group));
            DELETE FROM control.fifo_messages m WHERE m.sequence IN (
                SELECT n.sequence FROM control.fifo_messages n
                WHERE n.queue_id = dead.queue_id AND n.group_id = its_group AND n.visible_at < now() - older_than
                ORDER BY n.sequence LIMIT most FOR UPDATE SKIP LOCKED
            );
            GET DIAGNOSTICS gone = ROW_COUNT;
            forgotten := forgotten + gone;
            IF gone > 0 THEN
                PERFORM control.fifo_promote(dead, its_group);
            END IF;
        END LOOP;
    END LOOP;
    RETURN forgotten;
END $$;
