-- How long a task has been postponed because another service asked for it, in seconds, since it was last retried by hand: such
-- attempts use up none, within bounds. They are counted by `attempts_before`.
ALTER TABLE tasks ADD COLUMN postponed double precision NOT NULL DEFAULT 0;
