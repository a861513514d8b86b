-- What reads events by their numbers. A statement is planned before its snapshot is taken; a month that gets its partition
-- in between is not in the plan, while the numbers of its events are in the snapshot, and a reader would pass them over for
-- ever. In a stable function it is the other way round: it reads by the snapshot of the statement that calls it, and is
-- planned when it runs. (plpgsql, because a function in SQL may be put into the calling statement's plan.)

-- At most `most` events with the numbers after `after`, of the `span` numbers that follow it. The first batch may have
-- begun before; the last one may go on after. The batches are found first, so that their months prune the partitions.
CREATE FUNCTION numbered_events(after bigint, span bigint, most bigint) RETURNS TABLE (
    seq bigint, type_name text, key text, auxiliary text, event_id text, dt timestamptz, debit numeric, credit numeric, info text
) STABLE LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT * FROM batches
        WHERE first_seq >= coalesce((SELECT max(first_seq) FROM batches WHERE first_seq <= after + 1), 1)
          AND first_seq <= after + span
        ORDER BY first_seq
    )
    SELECT b.first_seq + e.place AS number, a.type, a.attributes, t.canonical, e.event_id, e.dt, e.debit, e.credit, e.info
    FROM wanted b
    CROSS JOIN LATERAL (
        SELECT * FROM events x WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt
    ) e
    JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id)
    WHERE b.first_seq + e.place > after AND b.first_seq + e.place <= after + span
    ORDER BY number LIMIT most;
END $$;

-- The sums of the batches after `after`, not beyond `upto`: as many whole batches as hold about `most` events, at least
-- one. Each row carries the last number in them; one without an account if their events are gone. Amounts in units of 10^-9.
CREATE FUNCTION numbered_sums(after bigint, upto bigint, most bigint) RETURNS TABLE (
    last_seq bigint, type_name text, account bigint, tuple text, hour timestamptz, debit text, credit text, events bigint
) STABLE LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH chosen AS MATERIALIZED (
        SELECT * FROM (
            SELECT b.*, sum(b.events) OVER (ORDER BY b.first_seq) - b.events AS before FROM (
                SELECT * FROM batches WHERE first_seq > after AND first_seq <= upto ORDER BY first_seq LIMIT 5000
            ) b
        ) c WHERE before < most
    ), sums AS (
        SELECT e.account_id, e.tuple_id, date_bin('1 hour', e.dt, 'epoch'::timestamptz) AS hour,
               trunc(coalesce(sum(e.debit), 0) * 1000000000)::text AS debit,
               trunc(coalesce(sum(e.credit), 0) * 1000000000)::text AS credit, count(*) AS events
        FROM chosen b CROSS JOIN LATERAL (
            SELECT * FROM events x WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt
        ) e GROUP BY 1, 2, 3
    )
    SELECT u.last_seq, a.type, s.account_id, t.canonical, s.hour, s.debit, s.credit, s.events
    FROM (SELECT max(first_seq + events - 1) AS last_seq FROM chosen) u
    LEFT JOIN (sums s JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id)) ON true
    WHERE u.last_seq IS NOT NULL;
END $$;

-- The number of the first event after `after` that is still there.
CREATE FUNCTION first_kept_seq(after bigint) RETURNS bigint STABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT b.first_seq FROM batches b
        WHERE b.first_seq > after AND EXISTS (
            SELECT FROM events e WHERE e.batch_id = b.batch_id AND e.dt BETWEEN b.first_dt AND b.last_dt
        ) ORDER BY b.first_seq LIMIT 1
    );
END $$;

-- Moves `dropped_seq` up to the first event that is still there.
CREATE OR REPLACE FUNCTION note_dropped_events() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE horizon h SET dropped_seq = k.dropped_seq
    FROM (SELECT coalesce(first_kept_seq(h.dropped_seq) - 1, s.last_seq) AS dropped_seq FROM sequence s, horizon h WHERE h.drops > 0) k
    WHERE h.dropped_seq < k.dropped_seq;
END $$;
