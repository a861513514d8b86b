-- How often a task was begun and it was not its turn: that counts as no attempt.
ALTER TABLE tasks ADD COLUMN IF NOT EXISTS waits int NOT NULL DEFAULT 0;
-- How long it has been put off because another service asked for it, in seconds, since it was last retried by hand: bounded.
ALTER TABLE tasks ADD COLUMN postponed double precision NOT NULL DEFAULT 0;
