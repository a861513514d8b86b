-- The data manager's own database.

-- The answer to each order. An answer never changes.
CREATE TABLE given (
    order_id int PRIMARY KEY,
    storage_id int NOT NULL CHECK (storage_id <> 0),
    pickup_point_id int NOT NULL CHECK (pickup_point_id <> 0),
    -- With --once: a callback was acknowledged (`Empty`), so no other is sent.
    delivered boolean NOT NULL DEFAULT false
);
