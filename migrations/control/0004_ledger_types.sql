-- Which integrations have been reconciled. An empty table: this database has never been, and gets the built-in bundle.
CREATE TABLE reconciled (
    integration text PRIMARY KEY,
    -- The last one to do so.
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    reconciled_at timestamptz NOT NULL DEFAULT now()
);

-- Types of accounts, locks and states, each as in its file. What is here was checked; changes tell `ledger_types`.
CREATE TABLE ledger_types (
    kind text NOT NULL CHECK (kind IN ('account', 'lock', 'state')),
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    definition jsonb NOT NULL,
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name),
    CHECK (definition ->> 'name' = name)
);

-- Sets of posting rules; the one in force is the highest version. Orders refer to versions, so none is ever changed or
-- deleted. A new one tells `posting_rules`.
CREATE TABLE posting_rules (
    version int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rules jsonb NOT NULL CHECK (jsonb_typeof(rules) = 'array'),
    owner text NOT NULL CHECK (owner IN ('builtin', 'bundle', 'api', 'configurator')),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'a row of % is never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER posting_rules_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON posting_rules
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
