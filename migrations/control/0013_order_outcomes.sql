-- Orders that have ended and whose events (orderProcessed, orderFailed) are still to be written: one row for each statement
-- that ended orders, in that statement, however many they were. Whoever writes the events removes the rows in the same
-- transaction; so there is no cursor that could pass a late commit by.
CREATE TABLE order_outcomes (
    outcome_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    processed int[] NOT NULL DEFAULT '{}',
    failed int[] NOT NULL DEFAULT '{}',
    -- Of the failed ones, as it was then: an operator may revive them.
    attempts int[] NOT NULL DEFAULT '{}',
    reasons text[] NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
