-- Background tasks: posted, of a schedule's tick, or enqueued by another task. The row is the task; a message in the FIFO
-- queue `tasks`, sent in the same transaction, brings it to a worker.
CREATE TABLE tasks (
    task_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_type text NOT NULL,
    -- An object, as written: jsonb would change it, and refuses \u0000.
    params json NOT NULL CHECK (json_typeof(params) = 'object'),
    task_key text COLLATE "C",
    schedule text,
    tick timestamptz,
    -- Waits to be begun, or to be tried again.
    status text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
    -- Attempts begun. Only the latest one can end the task.
    attempts int NOT NULL DEFAULT 0,
    -- Why the latest attempt failed.
    error text,
    -- What came of it: an object.
    outcome json,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    CHECK ((schedule IS NULL) = (tick IS NULL)),
    CHECK ((ended_at IS NULL) = (status IN ('waiting', 'running')))
);
-- One task for a key, however often it is posted.
CREATE UNIQUE INDEX tasks_by_key ON tasks (task_key) WHERE task_key IS NOT NULL;
-- One task for a tick, whatever the schedulers believe.
CREATE UNIQUE INDEX tasks_by_tick ON tasks (schedule, tick) WHERE schedule IS NOT NULL;
-- Serves forgetting.
CREATE INDEX tasks_by_end ON tasks (ended_at) WHERE ended_at IS NOT NULL;

-- Schedules, each as in its file. What is here was checked; changes tell `task_schedules`.
CREATE TABLE task_schedules (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    definition jsonb NOT NULL,
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    -- Ticks up to this one have their tasks. Moved in the transaction that enqueues them.
    done_until timestamptz NOT NULL DEFAULT now(),
    CHECK (definition ->> 'name' = name)
);
