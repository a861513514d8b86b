//! Check of sequence numbers: no gaps, and each event has one place in one batch.

use chrono::{DateTime, Utc};
use store::Result;

use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::snapshot::ShardSnapshot;
use crate::ids::SequenceNumber;
use crate::moment;

/// Totals recorded by the shard.
#[derive(Debug, Clone, Copy, store::FromRow)]
pub(super) struct ShardEventCounts {
    /// Events written, including dropped ones.
    pub(super) events: i64,
    /// Last assigned sequence number.
    pub(super) last_seq: SequenceNumber,
    pub(super) horizon: Option<DateTime<Utc>>,
}

pub(super) async fn read_event_counts(snapshot: &mut ShardSnapshot) -> Result<ShardEventCounts> {
    store::statement("check_written", EVENT_COUNTS_SQL).fetch_one(snapshot.connection()).await
}

pub(super) async fn check_numbers(
    shard: &str,
    snapshot: &mut ShardSnapshot,
    counts: ShardEventCounts,
    report: &mut LedgerCheckReport,
) -> Result<()> {
    let gaps: Vec<(SequenceNumber, SequenceNumber)> =
        store::statement("check_numbers", NUMBER_GAPS_SQL).fetch_all(snapshot.connection()).await?;
    for (after, next) in gaps {
        report.add_difference(
            Some(shard),
            LedgerCheckKind::Numbers,
            format!("after number {after} comes {next}"),
        );
    }
    let last: SequenceNumber = store::statement("check_last_number", LAST_BATCH_SEQ_SQL)
        .fetch_value(snapshot.connection())
        .await?;
    if last != counts.last_seq {
        let what =
            format!("the last number given is {}, but batches end with {last}", counts.last_seq);
        report.add_difference(Some(shard), LedgerCheckKind::Numbers, what);
    }
    let batches: Vec<LedgerCheckBatchRow> = store::statement("check_batches", WRONG_BATCHES_SQL)
        .fetch_all(snapshot.connection())
        .await?;
    for batch in batches {
        report.add_difference(Some(shard), LedgerCheckKind::Numbers, batch.describe_problem());
    }
    Ok(())
}

/// A batch whose events do not match its row.
#[derive(Debug, store::FromRow)]
struct LedgerCheckBatchRow {
    batch_id: i64,
    first_seq: Option<SequenceNumber>,
    events: Option<i32>,
    found: i64,
    places: i64,
    first_dt: Option<DateTime<Utc>>,
    last_dt: Option<DateTime<Utc>>,
}

impl LedgerCheckBatchRow {
    fn describe_problem(&self) -> String {
        let LedgerCheckBatchRow { batch_id, found, places, .. } = self;
        let Some(events) = self.events else {
            return format!("{found} events belong to batch {batch_id}, which is not there");
        };
        let named = match self.first_seq {
            Some(first) => format!("numbers {first} to {}", first.plus(i64::from(events) - 1)),
            None => format!("batch {batch_id}, not numbered yet"),
        };
        format!(
            "{named}: {found} events at {places} places, should be {events}, with times from {} to {}",
            format_time(self.first_dt),
            format_time(self.last_dt)
        )
    }
}

fn format_time(dt: Option<DateTime<Utc>>) -> String {
    dt.map(moment::format_moment).unwrap_or_default()
}

const EVENT_COUNTS_SQL: &str = "SELECT last_seq + (SELECT coalesce(sum(events), 0)::bigint FROM pending_batches) AS events, last_seq, horizon
FROM sequence, horizon";

const LAST_BATCH_SEQ_SQL: &str = "SELECT coalesce(max(first_seq + events - 1), 0) FROM batches";

const NUMBER_GAPS_SQL: &str = "SELECT after, first_seq FROM (
    SELECT first_seq, coalesce(lag(first_seq + events - 1) OVER (ORDER BY first_seq), 0) AS after FROM batches
) b WHERE first_seq <> after + 1 ORDER BY first_seq LIMIT 100";

/// A batch with times before the horizon may lack dropped events.
const WRONG_BATCHES_SQL: &str = "SELECT batch_id, b.first_seq, b.events, coalesce(e.found, 0) AS found, coalesce(e.places, 0) AS places, b.first_dt, b.last_dt
FROM (SELECT batch_id, first_seq, events, first_dt, last_dt FROM batches
      UNION ALL SELECT batch_id, NULL, events, first_dt, last_dt FROM pending_batches) b
FULL JOIN (SELECT batch_id, count(*) AS found, count(DISTINCT place) AS places, min(place) AS first_place,
                  max(place) AS last_place, min(dt) AS first_dt, max(dt) AS last_dt
           FROM events GROUP BY batch_id) e USING (batch_id)
CROSS JOIN horizon h
WHERE b.events IS NULL OR e.found > b.events OR e.places <> e.found OR e.first_place < 0 OR e.last_place >= b.events
   OR e.first_dt < b.first_dt OR e.last_dt > b.last_dt
   OR (coalesce(e.found, 0) < b.events AND coalesce(b.first_dt >= h.horizon, true))
ORDER BY b.first_seq, batch_id LIMIT 100";
