-- Sums of whole batches with numbers above `after` up to `upto`, by account, attribute set and hour (UTC): as
-- many batches as have about `most` events, at least one and at most 5,000.
--
-- - Result: each row has the last number of the batches (`last_seq`). One row without an account if all their
--   events were dropped; no row if there is no batch. `debit` and `credit` are in units of 10^-9.
-- - STABLE plpgsql, locks and planner settings as in numbered_events.
CREATE OR REPLACE FUNCTION numbered_sums(after bigint, upto bigint, most bigint) RETURNS TABLE (
    last_seq bigint, type_name text, account bigint, tuple text, hour timestamptz, debit text, credit text, events bigint
) STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('shard.event_months'));
    RETURN QUERY
    WITH chosen AS MATERIALIZED (
        SELECT * FROM (
            SELECT b.*, sum(b.events) OVER (ORDER BY b.first_seq) - b.events AS before FROM (
                SELECT * FROM shard.batches WHERE first_seq > after AND first_seq <= upto ORDER BY first_seq LIMIT 5000
            ) b
        ) c WHERE before < most
    ), sums AS (
        SELECT e.account_id, e.tuple_id, date_bin('1 hour', e.dt, 'epoch'::timestamptz) AS hour,
               trunc(coalesce(sum(e.debit), 0) * 1000000000)::text AS debit,
               trunc(coalesce(sum(e.credit), 0) * 1000000000)::text AS credit, count(*) AS events
        FROM chosen b CROSS JOIN LATERAL (
            SELECT * FROM shard.events x WHERE x.batch_id = b.batch_id AND x.dt BETWEEN b.first_dt AND b.last_dt
        ) e GROUP BY 1, 2, 3
    )
    SELECT u.last_seq, a.type, s.account_id, t.canonical, s.hour, s.debit, s.credit, s.events
    FROM (SELECT max(first_seq + events - 1) AS last_seq FROM chosen) u
    LEFT JOIN (sums s JOIN shard.accounts a USING (account_id) JOIN shard.tuples t USING (tuple_id)) ON true
    WHERE u.last_seq IS NOT NULL;
END $$;
