-- Templates as they were put.
CREATE TABLE configurator_templates (
    name text COLLATE "C" PRIMARY KEY,
    version int NOT NULL DEFAULT 1,
    template text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Instances: a template in an environment. Whoever changes anything of one locks its row first.
CREATE TABLE configurator_instances (
    instance_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    template_name text COLLATE "C" NOT NULL,
    env text NOT NULL CHECK (env IN ('dev', 'test', 'prod')),
    -- Grows with every change: what a process remembers of an instance holds while this is as it was.
    version bigint NOT NULL DEFAULT 0,
    -- The process that carried its run on last; null: somebody else changed it since.
    driver uuid,
    -- When its run has something to do again.
    wake_at timestamptz NOT NULL DEFAULT 'infinity',
    UNIQUE (template_name, env)
);
-- Serves finding what is due.
CREATE INDEX configurator_instances_due ON configurator_instances (wake_at) WHERE wake_at < 'infinity';

CREATE TABLE configurator_runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id bigint NOT NULL REFERENCES configurator_instances,
    template text NOT NULL,
    general_inputs text NOT NULL,
    env_inputs text NOT NULL,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'succeeded', 'failed', 'cancelled')),
    outputs text,
    -- Of the call that began it: repeated after its answer was lost, it finds its own run.
    request uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    CHECK ((status = 'running') = (ended_at IS NULL))
);
-- One run of an instance at a time, whatever the programs believe.
CREATE UNIQUE INDEX configurator_running ON configurator_runs (instance_id) WHERE status = 'running';
-- Serves finding an instance's latest run, and listing.
CREATE INDEX configurator_runs_of_instance ON configurator_runs (instance_id, run_id);
-- Serves forgetting.
CREATE INDEX configurator_runs_by_end ON configurator_runs (ended_at);

-- The steps of a run: its template's blocks, and deletions of blocks that have gone from it.
CREATE TABLE configurator_run_blocks (
    run_id bigint NOT NULL REFERENCES configurator_runs ON DELETE CASCADE,
    ordinal int NOT NULL,
    name text COLLATE "C" NOT NULL,
    integration text COLLATE "C" NOT NULL,
    -- Known when it is sent; of a deletion from the beginning.
    action text CHECK (action IN ('create', 'update', 'delete')),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'sent', 'succeeded', 'failed', 'skipped', 'cached', 'orphaned')),
    attempts int NOT NULL DEFAULT 0,
    -- The latest attempt's.
    block_id bigint,
    sent_at timestamptz,
    deadline timestamptz,
    ended_at timestamptz,
    state text,
    error_code text,
    error_args text,
    -- Of a deletion: the steps that come before it.
    after_steps int[],
    PRIMARY KEY (run_id, ordinal),
    CHECK (status <> 'sent' OR block_id IS NOT NULL AND deadline IS NOT NULL)
) WITH (fillfactor = 70);

-- Numbers of what is sent. They begin somewhere, so that an integration that remembers the numbers of one installation
-- does not take those of another for them; all are below 2^53.
CREATE SEQUENCE configurator_block_ids;
SELECT setval('configurator_block_ids', (random() * 2251799813685248)::bigint + 1);

-- What was sent to integrations, also in earlier attempts: an answer may come late.
CREATE TABLE configurator_sends (
    block_id bigint PRIMARY KEY CHECK (block_id < 9007199254740992),
    instance_id bigint NOT NULL,
    run_id bigint NOT NULL REFERENCES configurator_runs ON DELETE CASCADE,
    ordinal int NOT NULL,
    action text NOT NULL,
    params text NOT NULL,
    -- What the integration was told that it had returned last time.
    state text,
    digest text NOT NULL,
    depends_on text[]
);
-- Serves a run's transcript, and forgetting.
CREATE INDEX configurator_sends_of_run ON configurator_sends (run_id, ordinal);

-- Answers that were received and not looked at yet.
CREATE TABLE configurator_answers (
    -- Of several answers to one message the first counts.
    block_id bigint PRIMARY KEY,
    instance_id bigint NOT NULL,
    state text,
    error_code text,
    error_args text,
    received_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves taking an instance's.
CREATE INDEX configurator_answers_of_instance ON configurator_answers (instance_id, block_id);

-- What integrations keep for an instance: the last success of each block.
CREATE TABLE configurator_stored (
    instance_id bigint NOT NULL REFERENCES configurator_instances,
    name text COLLATE "C" NOT NULL,
    integration text COLLATE "C" NOT NULL,
    -- The message it answered: an answer to an earlier one changes nothing any more.
    block_id bigint NOT NULL,
    params text NOT NULL,
    state text NOT NULL,
    digest text NOT NULL,
    -- Blocks whose outputs it uses; null: too many to be listed.
    depends_on text[],
    -- Its integration refused to delete it.
    orphaned boolean NOT NULL DEFAULT false,
    PRIMARY KEY (instance_id, name, integration)
);

-- What an integration has answered, for redeliveries.
CREATE TABLE integration_answers (
    queue text COLLATE "C" NOT NULL,
    block_id bigint NOT NULL,
    answer text NOT NULL,
    answered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, block_id)
);
-- Serves forgetting.
CREATE INDEX integration_answers_by_age ON integration_answers (answered_at);

-- What an integration's handlers keep for themselves.
CREATE TABLE integration_store (
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, key)
);
