-- One shard of the ledger: a schema of the control database, or a database of its own.
-- Tables and data only; functions and triggers are in sql/shard. See docs/development.md, "SQL".

-- `min_compatible`: the lowest schema version that a program must know to work on this shard.
CREATE TABLE schema_compatibility (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    min_compatible bigint NOT NULL
);
INSERT INTO schema_compatibility (min_compatible) VALUES (1);

-- The functions that are installed from sql/shard, with the SHA-256 of their file and the program that installed them.
CREATE TABLE installed_functions (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    program_version text NOT NULL
);

-- The shard that lives here: protects against a wrong shard map. The range is of hash prefixes, 16 hex digits each.
CREATE TABLE shard_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    name text NOT NULL,
    range_first text NOT NULL CHECK (range_first ~ '^[0-9a-f]{16}$'),
    range_last text NOT NULL CHECK (range_last ~ '^[0-9a-f]{16}$')
);

-- Leases with fencing, as in the control database: sequencer, aggregator and exporter of this shard.
CREATE TABLE leases (
    lease_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    class text NOT NULL,
    name text NOT NULL,
    owner uuid NOT NULL,
    epoch bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    -- At most one holder per lease.
    UNIQUE (class, name)
);


-- Accounts and attribute sets --------------------------------------------------------------------------------------

-- An account: its type and key attributes (canonical text). The id is a hash of both, equal on every shard.
CREATE TABLE accounts (
    account_id bigint PRIMARY KEY,
    type text NOT NULL,
    attributes text NOT NULL
);
-- Serves: does the shard have accounts of this type?
CREATE INDEX accounts_by_type ON accounts (type);

-- Sets of auxiliary attributes, as canonical text and as an object of canonical texts; an absent attribute is null.
CREATE TABLE tuples (
    tuple_id bigint PRIMARY KEY,
    canonical text NOT NULL,
    attributes jsonb NOT NULL
);


-- Events -----------------------------------------------------------------------------------------------------------

-- Idempotency keys: a hash of type, event id and shard key, and a fingerprint of the whole content. They outlive
-- dropped events. Hash partitions keep the B-trees small: random inserts into one large index cost twice as much.
CREATE TABLE event_keys (
    key uuid PRIMARY KEY,
    content uuid NOT NULL
) PARTITION BY HASH (key);
CREATE TABLE event_keys_0 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE event_keys_1 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE event_keys_2 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE event_keys_3 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE event_keys_4 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE event_keys_5 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE event_keys_6 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE event_keys_7 PARTITION OF event_keys FOR VALUES WITH (MODULUS 8, REMAINDER 7);

-- Events, partitioned by `dt` (UTC): a table for each month, or one for several far months (create_event_months).
-- Rows are never updated: an event's sequence number follows from its batch and its place in the batch.
CREATE TABLE events (
    dt timestamptz NOT NULL,
    account_id bigint NOT NULL,
    tuple_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    place int NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    debit numeric,
    credit numeric,
    -- JSON as the client sent it.
    info text,
    CHECK ((debit IS NULL) <> (credit IS NULL)),
    CHECK (coalesce(debit, credit) >= 0)
) PARTITION BY RANGE (dt);
-- Serves balances, turnovers and listings of one account.
CREATE INDEX events_by_account ON events (account_id, dt);
-- Serves reading the events of a batch, in the order of their numbers.
CREATE INDEX events_by_batch ON events (batch_id);


-- Sequence numbers -------------------------------------------------------------------------------------------------

-- One row per transaction that wrote events, until the sequencer numbers them. A visible row is a committed one, so
-- the sequencer never waits for an open transaction.
CREATE TABLE pending_batches (
    batch_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    events int NOT NULL CHECK (events > 0),
    -- The earliest and latest `dt` of the batch: which partitions it touched.
    first_dt timestamptz NOT NULL,
    last_dt timestamptz NOT NULL
);

-- Numbered batches: the event at `place` of a batch has the sequence number first_seq + place.
CREATE TABLE batches (
    first_seq bigint PRIMARY KEY,
    batch_id bigint NOT NULL,
    events int NOT NULL CHECK (events > 0),
    first_dt timestamptz NOT NULL,
    last_dt timestamptz NOT NULL
);

-- The last sequence number. Its row lock serialises numbering.
CREATE TABLE sequence (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last_seq bigint NOT NULL DEFAULT 0 CHECK (last_seq >= 0)
);
INSERT INTO sequence DEFAULT VALUES;


-- Aggregates -------------------------------------------------------------------------------------------------------

-- The groupings that are aggregated, each of an account type, with its watermark.
CREATE TABLE groupings (
    grouping_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    -- Names of auxiliary attributes, sorted, joined by commas; empty: all events of the account together.
    attributes text NOT NULL,
    interval text NOT NULL CHECK (interval IN ('hour', 'day', 'month')),
    -- The aggregates contain exactly the events with numbers up to this one.
    aggregated_seq bigint NOT NULL,
    UNIQUE (type, attributes, interval)
);

-- Sums of an account's events over one period. A balance reads the years before the date's year, the months before the
-- date's month, and so on: its cost does not grow with the number of days.
CREATE TABLE aggregates (
    account_id bigint NOT NULL,
    grouping_id int NOT NULL,
    -- Year, month, day, hour.
    level "char" NOT NULL CHECK (level IN ('y', 'm', 'd', 'h')),
    -- The start of the period (UTC).
    period timestamptz NOT NULL,
    -- The set of the grouping's attributes (tuples.tuple_id).
    group_id bigint NOT NULL,
    debit numeric NOT NULL,
    credit numeric NOT NULL,
    -- Number of events: groups without events are not shown.
    events bigint NOT NULL,
    -- Serves reading and folding.
    PRIMARY KEY (account_id, grouping_id, level, period, group_id)
) WITH (fillfactor = 80);


-- Retention --------------------------------------------------------------------------------------------------------
-- Partitions are dropped once their events are numbered, aggregated and exported. Their sums stay.

-- How far back the ledger can answer. The row works as a sequence lock for readers.
CREATE TABLE horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Events before this time may have been dropped; null: none has been.
    horizon timestamptz,
    -- All events up to this number have been dropped. Some later ones may have been dropped too.
    dropped_seq bigint NOT NULL DEFAULT 0,
    -- Incremented by every drop. A reader compares the value before and after: if equal, nothing was dropped between.
    drops bigint NOT NULL DEFAULT 0
);
INSERT INTO horizon DEFAULT VALUES;

-- Sums of all dropped events by account and attribute set: fine enough for every grouping, also for one added later.
CREATE TABLE closing_balances (
    account_id bigint NOT NULL,
    tuple_id bigint NOT NULL,
    debit numeric NOT NULL,
    credit numeric NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    -- Serves reading, and adding to a row.
    PRIMARY KEY (account_id, tuple_id)
);

-- Events with greater numbers than `upto` have never been dropped: every event of their batches must be found. A table of
-- its own: changing `horizon` would wait for its readers and block all that come after.
CREATE TABLE event_gaps (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    upto bigint NOT NULL
);
INSERT INTO event_gaps (upto) VALUES (0);


-- Export -----------------------------------------------------------------------------------------------------------

-- The export position as its exporter last recorded it. The broker decides where to continue; this row says what the
-- broker must hold at least, so that a restored older copy of the broker or of the ledger is detected.
CREATE TABLE export (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Incremented when the ledger was restored to a state behind the broker: (epoch, number) identifies one event.
    epoch bigint NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    -- The first number of the epoch. Messages of earlier epochs at or above it are void.
    first_seq bigint NOT NULL DEFAULT 1 CHECK (first_seq >= 1),
    -- The last number that the broker has acknowledged as durable.
    exported_seq bigint NOT NULL DEFAULT 0,
    -- The end of the stream when the epoch was started; null: the stream was empty.
    follows_epoch bigint,
    follows_seq bigint,
    -- Why the export is stopped; null: it is not.
    alarm text,
    alarm_since timestamptz,
    CHECK (exported_seq >= first_seq - 1),
    CHECK (follows_epoch < epoch),
    CHECK ((follows_epoch IS NULL) = (follows_seq IS NULL)),
    CHECK ((alarm IS NULL) = (alarm_since IS NULL))
);
INSERT INTO export DEFAULT VALUES;


-- States and locks -------------------------------------------------------------------------------------------------
-- Both belong to a type and key attributes (canonical text); `key` is a hash of both.

-- States: JSON documents with a version.
CREATE TABLE states (
    key uuid PRIMARY KEY,
    type text NOT NULL,
    attributes text NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    -- As the client sent it: jsonb would normalise it, and refuses \u0000.
    state text NOT NULL,
    -- Identifies the write that made this version, so that its repetition is recognised: a hash of the state's content,
    -- and the version that the write expected (0: none; null: any).
    content uuid NOT NULL,
    expected bigint
);
-- Serves: does the shard have states of this type?
CREATE INDEX states_by_type ON states (type);

-- Locks: a row per request, which waits in the queue of its key ('w'), holds the lock ('h') or has ended ('e'; an expired
-- row has ended too). Ended rows are deleted after a day.
--
-- Every change of a key's rows happens under the key's advisory lock (take_turn), which serialises grants across
-- processes; while holding it, no row lock is waited for. A writer under a lock keeps the lock's row FOR KEY SHARE until
-- its commit; ending a lock takes the row FOR UPDATE, and leaves the lock held if the row is not available immediately.
--
-- Fencing tokens and queue places come from sequences of the shard, so that no row is kept for an unused key. A shard that
-- takes over keys of another one must start with greater tokens than the other's last.
CREATE SEQUENCE fencing_tokens;
CREATE SEQUENCE lock_places;
CREATE TABLE locks (
    -- Starts with the first eight bytes of the shard key's hash.
    lock_id uuid PRIMARY KEY,
    key uuid NOT NULL,
    type text NOT NULL,
    attributes text NOT NULL,
    exclusive boolean NOT NULL,
    ttl_ms bigint NOT NULL CHECK (ttl_ms > 0),
    owner text,
    request_id text COLLATE "C",
    state "char" NOT NULL CHECK (state IN ('w', 'h', 'e')),
    -- The place in the key's queue, ascending.
    place bigint NOT NULL DEFAULT nextval('lock_places'),
    -- The process whose caller waits for the grant; null: the caller has left. Its place is kept for a minute.
    process uuid,
    left_at timestamptz,
    -- The latest call for this request. A grant that its only caller has not received can be taken back.
    attempt uuid NOT NULL,
    repeated boolean NOT NULL DEFAULT false,
    -- Whether the caller has received the grant. Until then, the grant lasts a moment only.
    heard boolean NOT NULL DEFAULT false,
    -- Increases with every grant of a key: it is drawn under the key's advisory lock.
    token bigint,
    expires_at timestamptz,
    CHECK ((state = 'w') = (token IS NULL)),
    CHECK ((state = 'w') = (expires_at IS NULL))
);
-- At most one exclusive holder. (That no shared holder exists beside it is ensured by grant_locks.)
CREATE UNIQUE INDEX locks_held_exclusively ON locks (key) WHERE state = 'h' AND exclusive;
-- One grant per request id.
CREATE UNIQUE INDEX locks_by_request ON locks (key, request_id) WHERE request_id IS NOT NULL;
-- Serves: who holds the key, until when?
CREATE INDEX locks_held ON locks (key, expires_at) WHERE state = 'h';
-- Serves: who is next?
CREATE INDEX locks_in_line ON locks (key, place) WHERE state = 'w';
-- Serves: which locks does this process wait for?
CREATE INDEX locks_awaited ON locks (process) WHERE state = 'w';
-- Serves deleting ended locks.
CREATE INDEX locks_by_expiry ON locks (expires_at);

-- Processes with waiting callers. Unlogged: after a crash of the database each process reports again.
CREATE UNLOGGED TABLE lock_processes (
    process uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
);

-- The rows that the lock functions return.
-- The caller's own result: 'granted', 'queued', 'locked' (by whom), 'ended', 'other' (the request_id belongs to another
-- request), 'unknown', 'busy' (a transaction is writing under the lock: try again), 'released'.
-- Notifications: 'won' (a waiting caller of this process got the lock), 'look' (a caller of this process should ask again),
-- 'next' (id: the key; it must be looked at again in wait_ms, because callers wait).
CREATE TYPE lock_news AS (
    news text, id uuid, token bigint, expires_at timestamptz, owner text, exclusive boolean, wait_ms bigint
);
