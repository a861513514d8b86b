-- What the data manager told about each order: the same for ever.
CREATE TABLE given (
    order_id int PRIMARY KEY,
    storage_id int NOT NULL CHECK (storage_id <> 0),
    pickup_point_id int NOT NULL CHECK (pickup_point_id <> 0),
    -- With --once: whether a callback was answered `Empty`, so that no other is sent.
    delivered boolean NOT NULL DEFAULT false
);
