-- Tasks that action configs start: beside what every task has, the event and the config, and how they queue. A job of the
-- queue `actions` brings each to a worker.
ALTER TABLE tasks
    ADD COLUMN action_config text COLLATE "C",
    -- The event that it was started on; of a join, the completing one.
    ADD COLUMN event_id bigint,
    -- All events of its join.
    ADD COLUMN join_events bigint[],
    ADD COLUMN priority int NOT NULL DEFAULT 0,
    ADD COLUMN concurrency_key text,
    -- Failed attempts after which it is given up; null: the workers' own.
    ADD COLUMN max_attempts int,
    -- Its place in its chain of events and tasks.
    ADD COLUMN depth smallint NOT NULL DEFAULT 0,
    -- The attempts begun before it was retried by hand.
    ADD COLUMN attempts_before int NOT NULL DEFAULT 0,
    -- How often it was retried by hand: its messages and jobs carry this number.
    ADD COLUMN retries int NOT NULL DEFAULT 0,
    -- The latest status that was reported as an event.
    ADD COLUMN reported text,
    ADD CHECK ((action_config IS NULL) = (event_id IS NULL));
-- One task for an event and a config, whatever is repeated.
CREATE UNIQUE INDEX tasks_by_event ON tasks (event_id, action_config) WHERE event_id IS NOT NULL;

-- What tasks have brought about elsewhere, such as orders: the way back from there.
CREATE TABLE task_effects (
    kind text NOT NULL,
    effect text COLLATE "C" NOT NULL,
    task_id bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    PRIMARY KEY (kind, effect, task_id)
);
-- Serves forgetting tasks, and what a task has done.
CREATE INDEX task_effects_by_task ON task_effects (task_id);

-- The lane of jobs that are enqueued while nobody works on them.
INSERT INTO leases (class, name, owner, expires_at)
VALUES ('lane/actions', 'unclaimed', gen_random_uuid(), '-infinity') ON CONFLICT DO NOTHING;
