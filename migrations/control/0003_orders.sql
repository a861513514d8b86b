-- Orders: written once when accepted, when their data comes, and when they end. No index but the key, so that the
-- later two stay within their page (HOT); fillfactor leaves the room for that.
CREATE TABLE orders (
    order_id int PRIMARY KEY,
    product_id int NOT NULL,
    -- 1 initialized, 2 process started, 3 finished external interaction, 4 process finished, 5 failed
    state smallint NOT NULL CHECK (state BETWEEN 1 AND 5),
    -- 0 until the data manager's callback is stored; the first one wins.
    storage_id int NOT NULL DEFAULT 0,
    pickup_point_id int NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,
    accepted_at timestamptz NOT NULL,
    -- When the callback was stored.
    data_at timestamptz,
    started_at timestamptz,
    external_at timestamptz,
    finished_at timestamptz,
    -- Every time it was given up: an operator may revive it.
    failed_at timestamptz[],
    last_error text,
    CHECK ((storage_id = 0) = (pickup_point_id = 0)),
    -- Finished means that the data is there.
    CHECK (state <> 4 OR storage_id <> 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- What a process accepted and has in hand: one row for each commit, removed when each of its orders has ended or is a
-- job. When the process dies, whoever adopts its lane turns the rest into jobs.
CREATE TABLE accepted_batches (
    batch_id uuid PRIMARY KEY,
    lane bigint NOT NULL,
    order_ids int[] NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves adoption.
CREATE INDEX accepted_batches_by_lane ON accepted_batches (lane);

-- Callbacks for orders that nobody knows: for an operator to see, never applied.
CREATE TABLE orphan_callbacks (
    order_id int PRIMARY KEY,
    storage_id int NOT NULL,
    pickup_point_id int NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

-- The order's jobs and dead letters by id: serve ListOrders for the states of which only few orders are.
CREATE INDEX jobs_of_orders ON jobs ((job_key::int)) WHERE queue = 'orders';
CREATE INDEX dead_jobs_of_orders ON dead_jobs ((job_key::int)) WHERE queue = 'orders';
