-- The control database: leases, queues, orders, the bundle's objects, tasks, events, configurator.
-- Tables and data only; functions and triggers are in sql/control. See docs/development.md, "SQL".

-- `min_compatible`: the lowest schema version that a program must know to work on this database.
CREATE TABLE schema_compatibility (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    min_compatible bigint NOT NULL
);
INSERT INTO schema_compatibility (min_compatible) VALUES (1);

-- The functions that are installed from sql/control, with the SHA-256 of their file and the program that installed them.
CREATE TABLE installed_functions (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    program_version text NOT NULL
);

-- Leases with fencing: a holder proves itself by (lease_id, epoch); every change of owner increments the epoch.
CREATE TABLE leases (
    lease_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    class text NOT NULL,
    name text NOT NULL,
    owner uuid NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    -- At most one holder per lease.
    UNIQUE (class, name)
);

-- The processes that serve, for operators to see: one row each, refreshed every few seconds, deleted when the process ends
-- or some minutes after its last refresh. No decision depends on it; leases decide.
CREATE TABLE processes (
    process_id uuid PRIMARY KEY,
    host text NOT NULL,
    pid int NOT NULL,
    version text NOT NULL,
    roles text[] NOT NULL,
    -- By the clock of this database, as all times here.
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Where the shards are that no shard map names: decided once, when a service first starts on this database.
CREATE TABLE initial_shards (
    -- From the lowest range to the highest; all ranges have the same size.
    ordinal integer PRIMARY KEY CHECK (ordinal BETWEEN 0 AND 255),
    -- A schema of this database.
    schema text NOT NULL UNIQUE
);


-- Job queue --------------------------------------------------------------------------------------------------------

-- Durable jobs. Each belongs to a lane; a lane is a lease (class `lane/<queue>`), and only the lane's holder works on its
-- jobs. So a claim writes nothing, a crash uses up no attempt, and one renewed row protects any number of jobs.
CREATE TABLE jobs (
    job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    -- leases.lease_id. No foreign key: it would cost a row lock per job. A lane is deleted only when it is empty.
    lane bigint NOT NULL,
    -- 0 is worked on first.
    priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 3),
    run_at timestamptz NOT NULL,
    -- Waits for an older job of its group.
    blocked boolean NOT NULL DEFAULT false,
    job_key text,
    group_key text,
    attempts int NOT NULL DEFAULT 0,
    payload bytea NOT NULL,
    last_error text,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    -- The number of failed attempts when an immediate attempt was last requested: backoff is counted from there, also if
    -- the job was running at that moment. A number and not a flag, so that settling twice has the effect of settling once.
    hurried_after int NOT NULL DEFAULT 0 CHECK (hurried_after >= 0)
);
-- One job per key: enqueueing is idempotent. Also serves requesting an immediate attempt by key.
CREATE UNIQUE INDEX jobs_by_key ON jobs (queue, job_key) WHERE job_key IS NOT NULL;
-- Serves claims: due jobs of a lane, by priority and age.
CREATE INDEX jobs_due ON jobs (lane, priority, run_at, job_id) WHERE NOT blocked;
-- Serves unblocking the next job of a group.
CREATE INDEX jobs_by_group ON jobs (queue, group_key, job_id) WHERE group_key IS NOT NULL;
-- Serves ListOrders for the states that few orders have.
CREATE INDEX jobs_of_orders ON jobs ((job_key::int)) WHERE queue = 'orders';

-- Dead jobs: given up, with the reason; they wait for an operator.
CREATE TABLE dead_jobs (
    job_id bigint PRIMARY KEY,
    queue text NOT NULL,
    priority smallint NOT NULL,
    job_key text,
    group_key text,
    attempts int NOT NULL,
    payload bytea NOT NULL,
    reason text NOT NULL,
    enqueued_at timestamptz NOT NULL,
    died_at timestamptz NOT NULL DEFAULT now()
);
-- Serves retrying a dead job by key.
CREATE INDEX dead_jobs_by_key ON dead_jobs (queue, job_key);
-- Serves ListOrders of failed orders.
CREATE INDEX dead_jobs_of_orders ON dead_jobs ((job_key::int)) WHERE queue = 'orders';


-- Orders -----------------------------------------------------------------------------------------------------------

-- Orders: written when accepted, when the callback is stored, and when they end. No index but the primary key, so that
-- the two updates are HOT; `fillfactor` leaves room for them in the page.
CREATE TABLE orders (
    order_id int PRIMARY KEY,
    product_id int NOT NULL,
    -- 1 initialized, 2 process started, 3 finished external interaction, 4 process finished, 5 failed
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 5),
    -- 0 until the data manager's callback is stored; the first callback wins.
    storage_id int NOT NULL DEFAULT 0,
    pickup_point_id int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    accepted_at timestamptz NOT NULL,
    -- When the callback was stored.
    data_at timestamptz,
    started_at timestamptz,
    external_at timestamptz,
    finished_at timestamptz,
    -- Each time the order failed: an operator may retry a failed order.
    failed_at timestamptz[],
    last_error text,
    -- The version of the posting rules in force when the callback was stored; 0: there were none. With the callback's data
    -- and `data_at` it determines what the order posts.
    posting_rules int,
    CHECK ((storage_id = 0) = (pickup_point_id = 0)),
    -- A finished order has its data.
    CHECK (state <> 4 OR storage_id <> 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The orders that a process accepted and is working on: one row per commit, deleted when each of its orders has ended or
-- has become a job. When the process dies, the adopter of its lane turns the remaining orders into jobs.
CREATE TABLE accepted_batches (
    batch_id uuid PRIMARY KEY,
    lane bigint NOT NULL,
    order_ids int[] NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves adoption.
CREATE INDEX accepted_batches_by_lane ON accepted_batches (lane);

-- Callbacks for unknown orders: shown to operators, never applied.
CREATE TABLE orphan_callbacks (
    order_id int PRIMARY KEY,
    storage_id int NOT NULL,
    pickup_point_id int NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

-- Outbox of the events orderProcessed and orderFailed: one row per statement that ended orders, written by that statement.
-- The writer of the events deletes the rows in its transaction; without a cursor, no late commit can be skipped.
CREATE TABLE order_outcomes (
    outcome_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    processed int[] NOT NULL DEFAULT '{}',
    failed int[] NOT NULL DEFAULT '{}',
    -- Of the failed orders, at that time: an operator may retry them.
    attempts int[] NOT NULL DEFAULT '{}',
    reasons text[] NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);


-- Objects of the bundle ----------------------------------------------------------------------------------------------

-- The reconcilers that have run. Empty: a new database, which gets the built-in bundle.
CREATE TABLE reconciled (
    integration text PRIMARY KEY,
    -- The owner of the latest run.
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    reconciled_at timestamptz NOT NULL DEFAULT now()
);

-- Types of accounts, locks and states, each as in its file, validated. Changes notify `ledger_types`.
CREATE TABLE ledger_types (
    kind text NOT NULL CHECK (kind IN ('account', 'lock', 'state')),
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    definition jsonb NOT NULL,
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name),
    CHECK (definition ->> 'name' = name)
);

-- Sets of posting rules; the highest version is in force. Orders refer to versions, so rows are never changed or deleted
-- (trigger posting_rules_stay). A new row notifies `posting_rules`.
CREATE TABLE posting_rules (
    version int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rules jsonb NOT NULL CHECK (jsonb_typeof(rules) = 'array'),
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Schedules, each as in its file, validated. Changes notify `task_schedules`.
CREATE TABLE task_schedules (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    definition jsonb NOT NULL,
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    -- Ticks up to this time have their tasks. Advanced in the transaction that enqueues them.
    done_until timestamptz NOT NULL DEFAULT now(),
    CHECK (definition ->> 'name' = name)
);

-- Action configs: which task starts on which events, validated. Changes notify `action_configs`.
CREATE TABLE action_configs (
    name text COLLATE "C" PRIMARY KEY,
    definition jsonb NOT NULL,
    author text COLLATE "C" NOT NULL,
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    -- The names of the events that can trigger it.
    events text[] NOT NULL,
    -- The version that made this definition.
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (definition ->> 'name' = name)
);
-- Serves reading changes since a version.
CREATE INDEX action_configs_by_version ON action_configs (version);

-- The version of all action configs together. A change keeps this row locked until its commit, so that versions commit in
-- order.
CREATE TABLE action_configs_version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
);
INSERT INTO action_configs_version (version) VALUES (1);

-- Past definitions: valid from version `since` until version `until`. Serves the stories of past events.
CREATE TABLE action_config_history (
    name text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    until bigint,
    until_at timestamptz,
    definition jsonb NOT NULL,
    events text[] NOT NULL,
    PRIMARY KEY (name, since)
);
-- Serves stories: the configs for an event name.
CREATE INDEX action_config_history_by_event ON action_config_history USING gin (events);
-- Serves reading deletions since a version, and retention.
CREATE INDEX action_config_history_by_end ON action_config_history (until) WHERE until IS NOT NULL;


-- FIFO queues --------------------------------------------------------------------------------------------------------

-- FIFO queues with the semantics of Amazon SQS: order within a message group, receipts that expire, a deduplication
-- window, dead-letter queues.
CREATE TABLE fifo_queues (
    queue_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    -- The default visibility timeout.
    visibility_ms bigint NOT NULL CHECK (visibility_ms >= 0),
    -- The dead-letter queue, for messages that were received `max_receives` times and not deleted.
    dead_letters int REFERENCES fifo_queues,
    max_receives int CHECK (max_receives > 0),
    CHECK ((dead_letters IS NULL) = (max_receives IS NULL)),
    CHECK (dead_letters <> queue_id)
);

-- Messages that were sent and not deleted. A change of whether a group has messages happens under the group's advisory lock
-- (fifo_turn), so that the order of a group's sequence numbers is the order of its commits.
CREATE SEQUENCE fifo_sequence;
CREATE TABLE fifo_messages (
    -- Ascending within a group.
    sequence bigint PRIMARY KEY,
    queue_id int NOT NULL REFERENCES fifo_queues ON DELETE CASCADE,
    message_id uuid NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    dedup_id text COLLATE "C" NOT NULL,
    -- The first message of its group: the only one that can be received.
    head boolean NOT NULL,
    body text NOT NULL,
    attributes jsonb NOT NULL,
    sent_at timestamptz NOT NULL,
    visible_at timestamptz NOT NULL,
    receives int NOT NULL DEFAULT 0,
    -- Of the latest receive.
    receipt uuid
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- At most one message of a group can be received.
CREATE UNIQUE INDEX fifo_heads ON fifo_messages (queue_id, group_id) WHERE head;
-- Serves receiving: longest visible first.
CREATE INDEX fifo_due ON fifo_messages (queue_id, visible_at, sequence) WHERE head;
-- Serves finding the next message of a group.
CREATE INDEX fifo_by_group ON fifo_messages (queue_id, group_id, sequence);

-- The deduplication window: messages sent within the last five minutes, also deleted ones.
CREATE TABLE fifo_deduplication (
    queue_id int NOT NULL REFERENCES fifo_queues ON DELETE CASCADE,
    dedup_id text COLLATE "C" NOT NULL,
    message_id uuid NOT NULL,
    sequence bigint NOT NULL,
    sent_at timestamptz NOT NULL,
    -- One message per deduplication id.
    PRIMARY KEY (queue_id, dedup_id)
);
-- Serves retention.
CREATE INDEX fifo_deduplication_by_age ON fifo_deduplication (sent_at);

-- Messages deleted within the last minute: a delete whose answer was lost can be repeated.
CREATE TABLE fifo_deleted (
    sequence bigint PRIMARY KEY,
    receipt uuid NOT NULL,
    deleted_at timestamptz NOT NULL
);
-- Serves retention.
CREATE INDEX fifo_deleted_by_age ON fifo_deleted (deleted_at);

-- Outbox for queues outside of Postgres: written in the transaction that the message is about, sent afterwards in the order
-- of the group, at least once.
CREATE TABLE fifo_outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The engine of the queue, such as an environment's name.
    place text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    dedup_id text COLLATE "C" NOT NULL,
    body text NOT NULL,
    attributes text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Not before this time: another process is sending it, or sending failed.
    next_at timestamptz NOT NULL DEFAULT now(),
    attempts int NOT NULL DEFAULT 0,
    last_error text
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves claiming due messages.
CREATE INDEX fifo_outbox_due ON fifo_outbox (next_at, outbox_id);
-- Serves: is an earlier message of the group waiting?
CREATE INDEX fifo_outbox_by_group ON fifo_outbox (place, queue, group_id, outbox_id);
-- Serves withdrawing messages that are no longer wanted.
CREATE INDEX fifo_outbox_by_dedup ON fifo_outbox (dedup_id);


-- Background tasks -----------------------------------------------------------------------------------------------------

-- Background tasks: posted by a client, of a schedule's tick, enqueued by another task, or started by an action config. The
-- row is the task; a message in the FIFO queue `tasks` or a job of the queue `actions`, written in the same transaction,
-- brings it to a worker.
CREATE TABLE tasks (
    task_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_type text NOT NULL,
    -- An object, as sent: jsonb would normalise it, and refuses \u0000.
    params json NOT NULL CHECK (json_typeof(params) = 'object'),
    task_key text COLLATE "C",
    schedule text,
    tick timestamptz,
    -- 'waiting': for its first attempt or for a retry.
    status text NOT NULL DEFAULT 'waiting'
        CHECK (status IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
    -- Attempts started. Only the latest one can end the task.
    attempts int NOT NULL DEFAULT 0,
    -- The error of the latest failed attempt.
    error text,
    -- The result: an object.
    outcome json,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz,
    action_config text COLLATE "C",
    -- The event that triggered it; of a join, the event that completed it.
    event_id bigint,
    -- All events of its join.
    join_events bigint[],
    priority int NOT NULL DEFAULT 0,
    concurrency_key text,
    -- The number of failed attempts after which it fails; null: the worker's default.
    max_attempts int,
    -- Its position in its chain of events and tasks.
    depth smallint NOT NULL DEFAULT 0,
    -- Attempts started before the latest retry by an operator.
    attempts_before int NOT NULL DEFAULT 0,
    -- The number of retries by an operator: its messages and jobs carry it.
    retries int NOT NULL DEFAULT 0,
    -- The latest status that was published as an event.
    reported text,
    -- How often it was started and had to wait for its turn: no attempt is counted for that.
    waits int NOT NULL DEFAULT 0,
    -- Seconds for which other services have postponed it (Retry-After) since the latest retry by an operator: bounded.
    postponed double precision NOT NULL DEFAULT 0,
    CHECK ((schedule IS NULL) = (tick IS NULL)),
    CHECK ((ended_at IS NULL) = (status IN ('waiting', 'running'))),
    CHECK ((action_config IS NULL) = (event_id IS NULL))
);
-- One task per key.
CREATE UNIQUE INDEX tasks_by_key ON tasks (task_key) WHERE task_key IS NOT NULL;
-- One task per tick of a schedule.
CREATE UNIQUE INDEX tasks_by_tick ON tasks (schedule, tick) WHERE schedule IS NOT NULL;
-- One task per event and action config.
CREATE UNIQUE INDEX tasks_by_event ON tasks (event_id, action_config) WHERE event_id IS NOT NULL;
-- Serves retention.
CREATE INDEX tasks_by_end ON tasks (ended_at) WHERE ended_at IS NOT NULL;

-- What tasks have done elsewhere, such as orders: the way back from there.
CREATE TABLE task_effects (
    kind text NOT NULL,
    effect text COLLATE "C" NOT NULL,
    task_id bigint NOT NULL REFERENCES tasks ON DELETE CASCADE,
    PRIMARY KEY (kind, effect, task_id)
);
-- Serves retention of tasks, and the effects of a task.
CREATE INDEX task_effects_by_task ON task_effects (task_id);

-- The lane of jobs that are enqueued while no process works on the queue.
INSERT INTO leases (class, name, owner, expires_at) VALUES ('lane/actions', 'unclaimed', gen_random_uuid(), '-infinity');
-- With wal_level = minimal, Postgres (15) writes no WAL for a sequence in the transaction that creates it, but counts the 32
-- numbers that nextval() has logged in advance as logged: after a crash it would give the same ids again. setval() resets that count.
SELECT setval(pg_get_serial_sequence('leases', 'lease_id'), 1);


-- Events -----------------------------------------------------------------------------------------------------------------

-- Events: a name and params, and the task that caused the event, if any. Partitioned by week (create_event_weeks). An id is
-- the second of its creation (31 bits) followed by a number: one sequence, advanced every second, gives the ids, so they
-- ascend even if a clock steps back, and a time is a range of ids.
CREATE TABLE events (
    event_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    params jsonb NOT NULL CHECK (jsonb_typeof(params) = 'object'),
    author text COLLATE "C" NOT NULL,
    time_created timestamptz NOT NULL,
    -- The version of the action configs that it was matched against.
    config_version bigint NOT NULL,
    -- The task that caused it.
    task_id bigint,
    -- The number of tasks and events before it in its chain.
    depth smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (event_id)
) PARTITION BY RANGE (event_id);
CREATE SEQUENCE event_ids AS bigint;
-- Serves listings by name, newest or oldest first.
CREATE INDEX events_by_name ON events (name, event_id);
-- Serves stories: the events that a task caused.
CREATE INDEX events_by_task ON events (task_id, event_id) WHERE task_id IS NOT NULL;

-- One event per idempotency key. Keys that start with U+0001 are reserved for the platform.
CREATE TABLE event_keys (
    event_key text COLLATE "C" PRIMARY KEY,
    event_id bigint NOT NULL,
    -- SHA-256 of name and params in canonical form.
    content bytea NOT NULL
);
-- Serves deleting keys together with their events: rows are nearly in the order of their ids.
CREATE INDEX event_keys_by_event ON event_keys USING brin (event_id);

-- Partly matched joins. The row lock makes concurrent events of one join see each other.
CREATE TABLE action_joins (
    -- SHA-256 of the config's name, its triggers, its join, and the values.
    join_id bytea PRIMARY KEY,
    -- The trigger's index in the config -> the event that matched it.
    seen jsonb NOT NULL DEFAULT '{}',
    -- The event that completed it.
    fired_by bigint,
    expires_at timestamptz NOT NULL
);
-- Serves retention.
CREATE INDEX action_joins_by_expiry ON action_joins (expires_at);

-- Events whose templates are being rendered, written outside of the event's transaction by processes that started a short
-- while ago: an event that crashes the process each time leaves its row, and is found after some starts.
CREATE TABLE event_renderings (
    -- SHA-256 of the event's content: equal when it is written again after a crash.
    identity bytea PRIMARY KEY,
    -- How many processes started rendering it, together with others, and did not finish; and the latest one.
    begun int NOT NULL,
    begun_by uuid NOT NULL,
    -- The same for rendering it alone.
    alone int NOT NULL DEFAULT 0,
    alone_by uuid,
    begun_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves retention.
CREATE INDEX event_renderings_by_age ON event_renderings (begun_at);

-- Events that no longer start anything, because the process crashed each time it rendered them. Serves their stories.
CREATE TABLE set_aside_events (
    event_id bigint PRIMARY KEY,
    set_aside_at timestamptz NOT NULL DEFAULT now()
);


-- Configurator -----------------------------------------------------------------------------------------------------------

-- Templates as they were put.
CREATE TABLE configurator_templates (
    name text COLLATE "C" PRIMARY KEY,
    version int NOT NULL DEFAULT 1,
    template text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Instances: a template in an environment. Every change of an instance locks its row first.
CREATE TABLE configurator_instances (
    instance_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    template_name text COLLATE "C" NOT NULL,
    env text NOT NULL CHECK (env IN ('dev', 'test', 'prod')),
    -- Incremented by every change: what a process has cached of the instance is valid for one version.
    version bigint NOT NULL DEFAULT 0,
    -- The process that last advanced its run; null: it was changed by something else since.
    driver uuid,
    -- When its run has to be advanced again.
    wake_at timestamptz NOT NULL DEFAULT 'infinity',
    UNIQUE (template_name, env)
);
-- Serves finding due instances.
CREATE INDEX configurator_instances_due ON configurator_instances (wake_at) WHERE wake_at < 'infinity';

CREATE TABLE configurator_runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id bigint NOT NULL REFERENCES configurator_instances,
    template text NOT NULL,
    general_inputs text NOT NULL,
    env_inputs text NOT NULL,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'failed', 'cancelled')),
    outputs text,
    -- Identifies the call that started it: the call, repeated after a lost answer, finds its own run.
    request uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((status = 'running') = (ended_at IS NULL))
);
-- At most one running run per instance.
CREATE UNIQUE INDEX configurator_running ON configurator_runs (instance_id) WHERE status = 'running';
-- Serves finding an instance's latest run, and listing.
CREATE INDEX configurator_runs_of_instance ON configurator_runs (instance_id, run_id);
-- Serves retention.
CREATE INDEX configurator_runs_by_end ON configurator_runs (ended_at);

-- The steps of a run: the template's blocks, and deletions of blocks that the template no longer has.
CREATE TABLE configurator_run_blocks (
    run_id bigint NOT NULL REFERENCES configurator_runs ON DELETE CASCADE,
    ordinal int NOT NULL,
    name text COLLATE "C" NOT NULL,
    integration text COLLATE "C" NOT NULL,
    -- Known when it is sent; of a deletion from the start.
    action text CHECK (action IN ('create', 'update', 'delete')),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'sent', 'succeeded', 'failed', 'skipped', 'cached', 'orphaned')),
    attempts int NOT NULL DEFAULT 0,
    -- Of the latest attempt.
    block_id bigint,
    sent_at timestamptz,
    deadline timestamptz,
    ended_at timestamptz,
    state text,
    error_code text,
    error_args text,
    -- Of a deletion: the steps that come before it.
    after_steps int[],
    -- Of a block: the deletions that come before it, because they may concern the same object under another name.
    after_deletions int[],
    -- What is known of its params before it is sent, so that no deletion removes what it describes.
    foreseen text,
    PRIMARY KEY (run_id, ordinal),
    CHECK (status <> 'sent' OR block_id IS NOT NULL AND deadline IS NOT NULL)
) WITH (fillfactor = 70);

-- Ids of sent messages. They start at a random number, so that an integration that remembers the ids of one installation
-- does not confuse them with those of another; all are below 2^53.
CREATE SEQUENCE configurator_block_ids;
SELECT setval('configurator_block_ids', (random() * 2251799813685248)::bigint + 1);

-- Messages sent to integrations, also in earlier attempts: an answer may come late.
CREATE TABLE configurator_sends (
    block_id bigint PRIMARY KEY CHECK (block_id < 9007199254740992),
    instance_id bigint NOT NULL,
    run_id bigint NOT NULL REFERENCES configurator_runs ON DELETE CASCADE,
    ordinal int NOT NULL,
    action text NOT NULL,
    params text NOT NULL,
    -- The state that the message carried: the integration's previous result.
    state text,
    digest text NOT NULL,
    depends_on text[],
    -- The message needs no further attention where its block does not say so: it was answered with an error or late, or
    -- never sent.
    settled boolean NOT NULL DEFAULT false
);
-- Serves a run's transcript, and retention.
CREATE INDEX configurator_sends_of_run ON configurator_sends (run_id, ordinal);

-- Answers that were received and not yet processed.
CREATE TABLE configurator_answers (
    -- The first answer to a message counts.
    block_id bigint PRIMARY KEY,
    instance_id bigint NOT NULL,
    state text,
    error_code text,
    error_args text,
    received_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves taking the answers of an instance.
CREATE INDEX configurator_answers_of_instance ON configurator_answers (instance_id, block_id);

-- The last success of each block of an instance.
CREATE TABLE configurator_stored (
    instance_id bigint NOT NULL REFERENCES configurator_instances,
    name text COLLATE "C" NOT NULL,
    integration text COLLATE "C" NOT NULL,
    -- The message that was answered: an answer to an earlier one changes nothing.
    block_id bigint NOT NULL,
    params text NOT NULL,
    state text NOT NULL,
    digest text NOT NULL,
    -- Blocks whose outputs it uses; null: too many to be listed.
    depends_on text[],
    -- Its integration refused to delete it.
    orphaned boolean NOT NULL DEFAULT false,
    -- The message whose answer refused the deletion: an answer to an earlier one does not revive the block.
    orphaned_by bigint,
    PRIMARY KEY (instance_id, name, integration)
);

-- Tombstones: blocks that an instance no longer has, with the message whose answer removed them. An answer to that message
-- or an earlier one restores nothing, whenever it comes.
CREATE TABLE configurator_gone (
    instance_id bigint NOT NULL REFERENCES configurator_instances,
    name text COLLATE "C" NOT NULL,
    integration text COLLATE "C" NOT NULL,
    block_id bigint NOT NULL,
    gone_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, name, integration)
);
-- Serves retention.
CREATE INDEX configurator_gone_by_age ON configurator_gone (gone_at);

-- Answers of integrations (SDK), for redelivered messages.
CREATE TABLE integration_answers (
    queue text COLLATE "C" NOT NULL,
    block_id bigint NOT NULL,
    answer text NOT NULL,
    answered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, block_id)
);
-- Serves retention.
CREATE INDEX integration_answers_by_age ON integration_answers (answered_at);

-- Data that the handlers of integrations (SDK) keep.
CREATE TABLE integration_store (
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, key)
);
