-- How often a task was begun and it was not its turn: that counts as no attempt.
ALTER TABLE tasks ADD COLUMN waits int NOT NULL DEFAULT 0;
