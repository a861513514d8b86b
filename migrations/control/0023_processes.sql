-- The processes that serve, for people to see: one row each, refreshed every few seconds, deleted when the process ends and
-- some minutes after it was last heard of. Nothing is decided by it: who may do what is a matter of leases.
CREATE TABLE processes (
    process_id uuid PRIMARY KEY,
    host text NOT NULL,
    pid int NOT NULL,
    version text NOT NULL,
    roles text[] NOT NULL,
    -- By this database's clock, as everything here.
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
