-- Locks: a row for each request, which waits in line ('w'), is held ('h') or has ended ('e'; so is whatever has
-- expired). What ended a day ago is forgotten.
--
-- Whatever changes the rows of one key does so in its turn (take_turn): grants of a key come one after another, also
-- between processes. Within a turn no row is ever waited for. Who writes under a lock keeps its row FOR KEY SHARE until
-- the commit; ending a lock takes the row FOR UPDATE first, and leaves it held if it cannot have it at once.
--
-- Tokens and places come from sequences of the shard, so that nothing need be kept of a key that nobody uses. A shard
-- that takes over keys of another one must begin with greater tokens than that one's last.
CREATE SEQUENCE fencing_tokens;
CREATE SEQUENCE lock_places;
CREATE TABLE locks (
    -- Begins with the first eight bytes of the shard key's hash.
    lock_id uuid PRIMARY KEY,
    key uuid NOT NULL,
    type text NOT NULL,
    attributes text NOT NULL,
    exclusive boolean NOT NULL,
    ttl_ms bigint NOT NULL CHECK (ttl_ms > 0),
    owner text,
    request_id text COLLATE "C",
    state "char" NOT NULL CHECK (state IN ('w', 'h', 'e')),
    -- In line; the lower one comes first.
    place bigint NOT NULL DEFAULT nextval('lock_places'),
    -- Who waits for the grant; null: nobody any more. The place is kept for a minute for who asks again.
    process uuid,
    left_at timestamptz,
    -- The latest call for it. A grant that its only caller never heard of can be taken back.
    attempt uuid NOT NULL,
    repeated boolean NOT NULL DEFAULT false,
    -- Not yet, if another process is still to be told; then the grant lasts a moment only.
    heard boolean NOT NULL DEFAULT false,
    -- Grows with every grant of a key, as it is drawn in the key's turn.
    token bigint,
    expires_at timestamptz,
    CHECK ((state = 'w') = (token IS NULL)),
    CHECK ((state = 'w') = (expires_at IS NULL))
);
-- An exclusive lock is held once. (That no shared one is held beside it is grant_locks' to see to.)
CREATE UNIQUE INDEX locks_held_exclusively ON locks (key) WHERE state = 'h' AND exclusive;
-- One grant for a request, however often it comes.
CREATE UNIQUE INDEX locks_by_request ON locks (key, request_id) WHERE request_id IS NOT NULL;
-- Serves: who holds the key, until when?
CREATE INDEX locks_held ON locks (key, expires_at) WHERE state = 'h';
-- Serves: who is next?
CREATE INDEX locks_in_line ON locks (key, place) WHERE state = 'w';
-- Serves: whom does this process wait for?
CREATE INDEX locks_awaited ON locks (process) WHERE state = 'w';
-- Serves: what can be forgotten?
CREATE INDEX locks_by_expiry ON locks (expires_at);

-- Processes with callers in line. Unlogged: after a crash of the database each says again that it lives.
CREATE UNLOGGED TABLE lock_processes (
    process uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
);

-- What the functions below answer, in rows:
-- the caller's own outcome: 'granted', 'queued', 'locked' (by whom), 'ended', 'other' (the request_id is another
-- request's), 'unknown', 'busy' (somebody is writing under the lock: try again), 'released';
-- and what else there is to know: 'won' (a caller of this process that was in line has it now), 'look' (a caller of this
-- process should ask again), 'next' (id: the key; there is something to do in so many ms, since somebody waits).
CREATE TYPE lock_news AS (
    news text, id uuid, token bigint, expires_at timestamptz, owner text, exclusive boolean, wait_ms bigint
);

CREATE FUNCTION take_turn(p_key uuid) RETURNS void LANGUAGE sql AS
    $$ SELECT pg_advisory_xact_lock(hashtextextended(p_key::text, 20240229)) $$;

-- For four seconds from now; said once a second at most, so that callers do not wait for one another's row.
CREATE FUNCTION say_alive(p_process uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO lock_processes
    SELECT p_process, clock_timestamp() + interval '4 seconds'
    WHERE NOT EXISTS (SELECT FROM lock_processes p
                      WHERE p.process = p_process AND p.alive_until > clock_timestamp() + interval '3 seconds')
    ON CONFLICT (process) DO UPDATE SET alive_until = excluded.alive_until;
$$;

-- Ends what has expired, in the key's turn. A grant that nobody heard of goes back in line, to be asked for again.
CREATE FUNCTION end_expired_locks(p_key uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    WITH over AS (
        SELECT l.lock_id FROM locks l WHERE l.key = p_key AND l.state = 'h' AND l.expires_at <= moment
        FOR UPDATE SKIP LOCKED
    )
    UPDATE locks l SET state = CASE WHEN l.heard THEN 'e' ELSE 'w' END,
                       token = CASE WHEN l.heard THEN l.token END,
                       expires_at = CASE WHEN l.heard THEN l.expires_at END,
                       process = NULL, left_at = moment
    FROM over WHERE l.lock_id = over.lock_id;
END $$;

-- The first in line whose process lives.
CREATE FUNCTION next_in_line(p_key uuid) RETURNS locks LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    first locks;
BEGIN
    -- A subquery, not a join: the line is read in its order and no further than it must.
    SELECT l.* INTO first FROM locks l
    WHERE l.key = p_key AND l.state = 'w'
        AND (SELECT p.alive_until FROM lock_processes p WHERE p.process = l.process) > moment
    ORDER BY l.place LIMIT 1;
    RETURN first;
END $$;

-- Whether what is held of a key stands against one more.
CREATE FUNCTION lock_is_held(p_key uuid, p_exclusive boolean) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    held boolean;
BEGIN
    -- One row tells: an exclusive one would be the only one.
    SELECT l.exclusive INTO held FROM locks l WHERE l.key = p_key AND l.state = 'h' LIMIT 1;
    RETURN FOUND AND (held OR p_exclusive);
END $$;

-- Grants to those next in line, as many as can be, in the key's turn. Callers of p_process have it at once ('won');
-- another process is told, and has two seconds to ask for it.
CREATE FUNCTION grant_locks(p_key uuid, p_process uuid) RETURNS SETOF lock_news LANGUAGE plpgsql AS $$
DECLARE
    winner locks;
    own boolean;
BEGIN
    LOOP
        winner := next_in_line(p_key);
        EXIT WHEN winner.lock_id IS NULL OR lock_is_held(p_key, winner.exclusive);
        own := winner.process = p_process;
        UPDATE locks l SET state = 'h', token = nextval('fencing_tokens'), heard = own,
            expires_at = clock_timestamp()
                + interval '1 millisecond' * CASE WHEN own THEN l.ttl_ms ELSE least(l.ttl_ms, 2000) END
        WHERE l.lock_id = winner.lock_id AND l.state = 'w'
        RETURNING l.token, l.expires_at INTO winner.token, winner.expires_at;
        -- Unless it was forgotten just now.
        CONTINUE WHEN NOT FOUND;
        IF own THEN
            RETURN NEXT ('won', winner.lock_id, winner.token, winner.expires_at, NULL, NULL, NULL)::lock_news;
        ELSE
            PERFORM pg_notify('ledger_locks', winner.lock_id::text);
        END IF;
    END LOOP;
END $$;

-- When there is something to do about a key, if anybody waits for it: now, if the next in line could have it.
CREATE FUNCTION lock_outlook(p_key uuid) RETURNS SETOF lock_news LANGUAGE plpgsql AS $$
DECLARE
    first locks := next_in_line(p_key);
    next_expiry timestamptz;
    wait_ms bigint := 0;
BEGIN
    IF first.lock_id IS NULL THEN
        RETURN;
    END IF;
    IF lock_is_held(p_key, first.exclusive) THEN
        SELECT l.expires_at INTO next_expiry FROM locks l WHERE l.key = p_key AND l.state = 'h'
        ORDER BY l.expires_at LIMIT 1;
        wait_ms := greatest(0, ceil(1000 * extract(epoch FROM next_expiry - clock_timestamp())));
    END IF;
    RETURN NEXT ('next', p_key, NULL, NULL, NULL, NULL, wait_ms)::lock_news;
END $$;

-- Who stands against a grant: of several the one who holds it longest.
CREATE FUNCTION lock_holder(p_key uuid) RETURNS SETOF lock_news LANGUAGE sql AS $$
    (SELECT 'locked', l.lock_id, l.token, l.expires_at, l.owner, l.exclusive, NULL::bigint
     FROM locks l WHERE l.key = p_key AND l.state = 'h' ORDER BY l.expires_at DESC LIMIT 1)
    UNION ALL
    (SELECT 'locked', NULL, NULL, NULL, NULL, NULL, NULL
     WHERE NOT EXISTS (SELECT FROM locks l WHERE l.key = p_key AND l.state = 'h'))
$$;

-- Takes a lock, or a place in line if the caller waits, or goes on with what an earlier call of the same lock_id or
-- request_id got. The next four keep to index scans: their plans stay, and the tables may have been empty at first.
CREATE FUNCTION take_lock(
    p_lock_id uuid, p_attempt uuid, p_process uuid, p_key uuid, p_type text, p_attributes text,
    p_exclusive boolean, p_ttl_ms bigint, p_waits boolean, p_owner text, p_request_id text
) RETURNS SETOF lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    mine locks;
    free boolean;
BEGIN
    PERFORM take_turn(p_key);
    PERFORM end_expired_locks(p_key);
    SELECT l.* INTO mine FROM locks l WHERE l.lock_id = p_lock_id;
    IF mine.lock_id IS NULL AND p_request_id IS NOT NULL THEN
        SELECT l.* INTO mine FROM locks l WHERE l.key = p_key AND l.request_id = p_request_id;
    END IF;
    IF mine.lock_id IS NOT NULL THEN
        IF (mine.exclusive, mine.ttl_ms, mine.owner) IS DISTINCT FROM (p_exclusive, p_ttl_ms, p_owner) THEN
            RETURN NEXT ('other', mine.lock_id, NULL, NULL, NULL, NULL, NULL)::lock_news;
            RETURN;
        END IF;
        RETURN QUERY SELECT * FROM retake_lock(mine, p_attempt, p_process, p_waits);
        RETURN;
    END IF;

    RETURN QUERY SELECT * FROM grant_locks(p_key, p_process);
    free := (next_in_line(p_key)).lock_id IS NULL AND NOT lock_is_held(p_key, p_exclusive);
    IF NOT free AND NOT p_waits THEN
        RETURN QUERY SELECT * FROM lock_holder(p_key);
        RETURN;
    END IF;
    IF NOT free THEN
        PERFORM say_alive(p_process);
    END IF;
    INSERT INTO locks (lock_id, key, type, attributes, exclusive, ttl_ms, owner, request_id, state, process, attempt,
                       heard, token, expires_at)
    VALUES (p_lock_id, p_key, p_type, p_attributes, p_exclusive, p_ttl_ms, p_owner, p_request_id,
            CASE WHEN free THEN 'h' ELSE 'w' END, p_process, p_attempt, free,
            CASE WHEN free THEN nextval('fencing_tokens') END,
            CASE WHEN free THEN clock_timestamp() + interval '1 millisecond' * p_ttl_ms END)
    RETURNING * INTO mine;
    IF NOT free THEN
        RETURN NEXT ('queued', p_lock_id, NULL, NULL, NULL, NULL, NULL)::lock_news;
        RETURN QUERY SELECT * FROM lock_outlook(p_key);
        RETURN;
    END IF;
    RETURN NEXT ('granted', p_lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::lock_news;
    DELETE FROM locks l WHERE l.lock_id IN (
        SELECT o.lock_id FROM locks o WHERE o.expires_at < now() - interval '1 day'
        ORDER BY o.expires_at LIMIT 4 FOR UPDATE SKIP LOCKED
    );
END $$;

-- Goes on with a request that is known, in the key's turn.
CREATE FUNCTION retake_lock(mine locks, p_attempt uuid, p_process uuid, p_waits boolean)
RETURNS SETOF lock_news LANGUAGE plpgsql AS $$
DECLARE
    kept boolean;
BEGIN
    kept := EXISTS (SELECT FROM lock_processes p WHERE p.process = mine.process AND p.alive_until > clock_timestamp());
    IF mine.state = 'w' AND (p_waits OR NOT kept OR mine.attempt = p_attempt) THEN
        PERFORM say_alive(p_process);
        UPDATE locks l SET process = p_process, left_at = NULL, attempt = p_attempt,
                           repeated = l.repeated OR l.attempt <> p_attempt
        WHERE l.lock_id = mine.lock_id;
    END IF;
    RETURN QUERY SELECT * FROM grant_locks(mine.key, p_process);
    SELECT l.* INTO mine FROM locks l WHERE l.lock_id = mine.lock_id;
    IF mine.state = 'w' AND p_waits THEN
        RETURN NEXT ('queued', mine.lock_id, NULL, NULL, NULL, NULL, NULL)::lock_news;
    ELSIF mine.state = 'w' THEN
        DELETE FROM locks l WHERE l.lock_id = mine.lock_id AND l.attempt = p_attempt;
        RETURN QUERY SELECT * FROM grant_locks(mine.key, p_process);
        RETURN QUERY SELECT * FROM lock_holder(mine.key);
    ELSIF mine.state = 'h' AND mine.expires_at > clock_timestamp() THEN
        UPDATE locks l SET heard = true, attempt = p_attempt, repeated = l.repeated OR l.attempt <> p_attempt,
            expires_at = CASE WHEN l.heard THEN l.expires_at
                              ELSE clock_timestamp() + interval '1 millisecond' * l.ttl_ms END
        WHERE l.lock_id = mine.lock_id AND (NOT l.heard OR l.attempt <> p_attempt);
        RETURN QUERY SELECT 'granted', l.lock_id, l.token, l.expires_at, NULL::text, NULL::boolean, NULL::bigint
                     FROM locks l WHERE l.lock_id = mine.lock_id;
    ELSE
        RETURN NEXT ('ended', mine.lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::lock_news;
    END IF;
    RETURN QUERY SELECT * FROM lock_outlook(mine.key);
END $$;

-- The caller of an attempt is gone: it leaves the line, and a grant that it never heard of is taken back. If it named
-- its request its place is kept for a while, without anybody waiting for it.
CREATE FUNCTION leave_lock(p_lock_id uuid, p_attempt uuid, p_process uuid, p_key uuid)
RETURNS SETOF lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM take_turn(p_key);
    PERFORM end_expired_locks(p_key);
    DELETE FROM locks l WHERE l.lock_id = p_lock_id AND l.attempt = p_attempt AND l.request_id IS NULL
        AND l.state <> 'e';
    UPDATE locks l SET state = 'w', token = NULL, expires_at = NULL, heard = false, process = NULL,
                       left_at = clock_timestamp()
    WHERE l.lock_id = p_lock_id AND l.attempt = p_attempt AND (l.state = 'w' OR l.state = 'h' AND NOT l.repeated);
    RETURN QUERY SELECT * FROM grant_locks(p_key, p_process);
    RETURN QUERY SELECT * FROM lock_outlook(p_key);
END $$;

-- Ends a lock. The attempt is remembered, so that its repetition is no error.
CREATE FUNCTION release_lock(p_lock_id uuid, p_attempt uuid, p_process uuid)
RETURNS SETOF lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    mine locks;
BEGIN
    SELECT l.* INTO mine FROM locks l WHERE l.lock_id = p_lock_id;
    PERFORM take_turn(mine.key);
    PERFORM end_expired_locks(mine.key);
    SELECT l.* INTO mine FROM locks l WHERE l.lock_id = p_lock_id AND l.state <> 'w';
    IF NOT FOUND THEN
        RETURN NEXT ('unknown', p_lock_id, NULL, NULL, NULL, NULL, NULL)::lock_news;
        RETURN;
    ELSIF mine.state = 'h' AND mine.expires_at > clock_timestamp() THEN
        PERFORM 1 FROM locks l WHERE l.lock_id = p_lock_id FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN NEXT ('busy', p_lock_id, NULL, NULL, NULL, NULL, NULL)::lock_news;
            RETURN;
        END IF;
        UPDATE locks l SET state = 'e', attempt = p_attempt, expires_at = least(l.expires_at, clock_timestamp())
        WHERE l.lock_id = p_lock_id;
        mine.attempt := p_attempt;
    END IF;
    RETURN NEXT (CASE WHEN mine.attempt = p_attempt THEN 'released' ELSE 'ended' END,
                 p_lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::lock_news;
    RETURN QUERY SELECT * FROM grant_locks(mine.key, p_process);
    RETURN QUERY SELECT * FROM lock_outlook(mine.key);
END $$;

-- Lets a lock that is alive expire so long from now.
CREATE FUNCTION extend_lock(p_lock_id uuid, p_ttl_ms bigint, p_process uuid)
RETURNS SETOF lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    mine locks;
BEGIN
    SELECT l.* INTO mine FROM locks l WHERE l.lock_id = p_lock_id;
    PERFORM take_turn(mine.key);
    PERFORM end_expired_locks(mine.key);
    SELECT l.* INTO mine FROM locks l WHERE l.lock_id = p_lock_id AND l.state <> 'w';
    IF NOT FOUND THEN
        RETURN NEXT ('unknown', p_lock_id, NULL, NULL, NULL, NULL, NULL)::lock_news;
        RETURN;
    END IF;
    UPDATE locks l SET expires_at = clock_timestamp() + interval '1 millisecond' * p_ttl_ms
    WHERE l.lock_id = p_lock_id AND l.state = 'h' AND l.expires_at > clock_timestamp()
    RETURNING l.expires_at INTO mine.expires_at;
    RETURN NEXT (CASE WHEN FOUND THEN 'granted' ELSE 'ended' END,
                 p_lock_id, mine.token, mine.expires_at, NULL, NULL, NULL)::lock_news;
    RETURN QUERY SELECT * FROM grant_locks(mine.key, p_process);
    RETURN QUERY SELECT * FROM lock_outlook(mine.key);
END $$;

-- Something of the key has expired: whoever is next has it.
CREATE FUNCTION hand_over_lock(p_key uuid, p_process uuid)
RETURNS SETOF lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM take_turn(p_key);
    PERFORM end_expired_locks(p_key);
    RETURN QUERY SELECT * FROM grant_locks(p_key, p_process);
    RETURN QUERY SELECT * FROM lock_outlook(p_key);
END $$;

-- A process says that it lives and that these of its callers wait, and learns what it may have missed.
CREATE FUNCTION keep_waiting(p_process uuid, p_lock_ids uuid[], p_forget boolean)
RETURNS SETOF lock_news LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    moment timestamptz;
BEGIN
    PERFORM say_alive(p_process);
    moment := clock_timestamp();
    RETURN QUERY
    SELECT 'look', w.lock_id, NULL::bigint, NULL::timestamptz, NULL::text, NULL::boolean, NULL::bigint
    FROM unnest(p_lock_ids) AS w (lock_id)
    WHERE NOT EXISTS (SELECT FROM locks l JOIN lock_processes p ON p.process = l.process
                      WHERE l.lock_id = w.lock_id AND l.state = 'w' AND p.alive_until > moment);
    RETURN QUERY
    SELECT o.* FROM (SELECT DISTINCT l.key FROM locks l WHERE l.process = p_process AND l.state = 'w') k,
        LATERAL lock_outlook(k.key) o;
    IF p_forget THEN
        -- Those that nobody came back for, in whatever line; first noticed, then forgotten a minute later.
        DELETE FROM locks l WHERE l.lock_id IN (
            SELECT w.lock_id FROM locks w WHERE w.state = 'w' AND w.left_at < moment - interval '1 minute'
            AND NOT EXISTS (SELECT FROM lock_processes p WHERE p.process = w.process AND p.alive_until > moment)
            FOR UPDATE SKIP LOCKED
        );
        UPDATE locks l SET left_at = moment WHERE l.lock_id IN (
            SELECT w.lock_id FROM locks w WHERE w.state = 'w' AND w.left_at IS NULL
            AND NOT EXISTS (SELECT FROM lock_processes p WHERE p.process = w.process AND p.alive_until > moment)
            FOR UPDATE SKIP LOCKED
        );
        DELETE FROM lock_processes p WHERE p.alive_until < moment - interval '1 hour';
    END IF;
END $$;
