-- Attempts that had failed when somebody last asked for the job to be tried at once: its backoff begins anew there, also
-- when it was in work at that moment. A number and not a flag, so that settling twice is settling once.
ALTER TABLE jobs ADD COLUMN hurried_after int NOT NULL DEFAULT 0 CHECK (hurried_after >= 0);
