-- Of a block: the deletions that come before it, as they may be about the same thing under another name; and what is known of its
-- params before it is sent, so that nothing is deleted that it describes.
ALTER TABLE configurator_run_blocks ADD COLUMN after_deletions int[], ADD COLUMN foreseen text;
