-- Where the shards lie that no shard map names: decided once, when a service first starts on this database.
CREATE TABLE initial_shards (
    -- From the lowest range to the highest; all ranges are equally large.
    ordinal integer PRIMARY KEY CHECK (ordinal BETWEEN 0 AND 255),
    -- A schema of this database; null: a database `shard_s0`, `shard_s1`, … of its own in the embedded cluster.
    schema text UNIQUE
);
