-- How long it has been put off because another service asked for it, in seconds, since it was last retried by hand: bounded.
ALTER TABLE tasks ADD COLUMN postponed double precision NOT NULL DEFAULT 0;
