-- Blocks that an instance stores no longer, with the message whose answer took them away: an answer to that message or an
-- earlier one brings nothing back, whenever it comes.
CREATE TABLE configurator_gone (
    instance_id bigint NOT NULL REFERENCES configurator_instances,
    name text COLLATE "C" NOT NULL,
    integration text COLLATE "C" NOT NULL,
    block_id bigint NOT NULL,
    gone_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, name, integration)
);
-- Serves forgetting.
CREATE INDEX configurator_gone_by_age ON configurator_gone (gone_at);

-- The message whose answer refused the deletion: an answer to an earlier one does not call the block back.
ALTER TABLE configurator_stored ADD COLUMN orphaned_by bigint;
