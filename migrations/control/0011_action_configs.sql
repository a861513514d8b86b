-- Action configs: which task starts on which events. What is here was checked; changes tell `action_configs`.
CREATE TABLE action_configs (
    name text COLLATE "C" PRIMARY KEY,
    definition jsonb NOT NULL,
    author text COLLATE "C" NOT NULL,
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    -- The names of the events that it is about.
    events text[] NOT NULL,
    -- Since this version it is as it is.
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (definition ->> 'name' = name)
);
-- Serves following changes.
CREATE INDEX action_configs_by_version ON action_configs (version);

-- The version of all configs together; whoever changes one holds this row until the commit, so versions commit in order.
CREATE TABLE action_configs_version (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
);
INSERT INTO action_configs_version (version) VALUES (1);

-- Every config as it was: valid from a version until another one. Serves the stories of past events.
CREATE TABLE action_config_history (
    name text COLLATE "C" NOT NULL,
    since bigint NOT NULL,
    until bigint,
    until_at timestamptz,
    definition jsonb NOT NULL,
    events text[] NOT NULL,
    PRIMARY KEY (name, since)
);
-- Serves stories: the configs about an event's name.
CREATE INDEX action_config_history_by_event ON action_config_history USING gin (events);
-- Serves following deletions, and forgetting.
CREATE INDEX action_config_history_by_end ON action_config_history (until) WHERE until IS NOT NULL;

-- What has been seen of joins. The row's lock makes concurrent events see each other.
CREATE TABLE action_joins (
    -- SHA-256 of the config's name, its triggers, its join, and the values.
    join_id bytea PRIMARY KEY,
    -- The trigger's place in the config -> the event that pulled it.
    seen jsonb NOT NULL DEFAULT '{}',
    -- The event that completed it.
    fired_by bigint,
    expires_at timestamptz NOT NULL
);
-- Serves forgetting.
CREATE INDEX action_joins_by_expiry ON action_joins (expires_at);
