-- Events whose templates are being rendered, noted outside of any transaction by processes that began a short while ago: what
-- ends the process each time leaves its row behind, and is found after some starts.
CREATE TABLE event_renderings (
    -- SHA-256 of what the event is: the same when it is written again after a crash.
    identity bytea PRIMARY KEY,
    -- How many processes began it, with others, and never ended it; and the last one.
    begun int NOT NULL,
    begun_by uuid NOT NULL,
    -- The same, by itself.
    alone int NOT NULL DEFAULT 0,
    alone_by uuid,
    begun_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
-- Serves forgetting.
CREATE INDEX event_renderings_by_age ON event_renderings (begun_at);

-- Events that start nothing any more, because the process ended each time that they were looked at. Serves their stories.
CREATE TABLE set_aside_events (
    event_id bigint PRIMARY KEY,
    set_aside_at timestamptz NOT NULL DEFAULT now()
);
