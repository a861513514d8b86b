//! Sequence numbers: no gap, and each event has one place in one batch.

use chrono::{DateTime, Utc};
use store::Result;

use super::report::{Kind, Report};
use super::snapshot::Snapshot;
use crate::moment;

/// What a shard says of itself.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(super) struct Written {
    /// Events written, dropped ones included.
    pub(super) events: i64,
    /// The last number.
    pub(super) last_seq: i64,
    pub(super) horizon: Option<DateTime<Utc>>,
}

pub(super) async fn written(snapshot: &mut Snapshot) -> Result<Written> {
    Ok(sqlx::query_as(WRITTEN).fetch_one(snapshot.connection()).await?)
}

pub(super) async fn check(
    shard: &str,
    snapshot: &mut Snapshot,
    written: Written,
    report: &mut Report,
) -> Result<()> {
    let gaps: Vec<(i64, i64)> = sqlx::query_as(GAPS).fetch_all(snapshot.connection()).await?;
    for (after, next) in gaps {
        report.add(Some(shard), Kind::Numbers, format!("after number {after} comes {next}"));
    }
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(snapshot.connection()).await?;
    if last != written.last_seq {
        let what = format!("the last number given is {}, but batches end with {last}", written.last_seq);
        report.add(Some(shard), Kind::Numbers, what);
    }
    let batches: Vec<Batch> = sqlx::query_as(BATCHES).fetch_all(snapshot.connection()).await?;
    for batch in batches {
        report.add(Some(shard), Kind::Numbers, batch.said());
    }
    Ok(())
}

/// A batch whose events are not those that it should have.
#[derive(Debug, sqlx::FromRow)]
struct Batch {
    batch_id: i64,
    first_seq: Option<i64>,
    events: Option<i32>,
    found: i64,
    places: i64,
    first_dt: Option<DateTime<Utc>>,
    last_dt: Option<DateTime<Utc>>,
}

impl Batch {
    fn said(&self) -> String {
        let Batch { batch_id, found, places, .. } = self;
        let Some(events) = self.events else {
            return format!("{found} events belong to batch {batch_id}, which is not there");
        };
        let named = match self.first_seq {
            Some(first) => format!("numbers {first} to {}", first + i64::from(events) - 1),
            None => format!("batch {batch_id}, not numbered yet"),
        };
        let time = |dt: Option<DateTime<Utc>>| dt.map(moment::show).unwrap_or_default();
        format!(
            "{named}: {found} events at {places} places, should be {events}, with times from {} to {}",
            time(self.first_dt),
            time(self.last_dt)
        )
    }
}

const WRITTEN: &str = "-- check_written
SELECT last_seq + (SELECT coalesce(sum(events), 0)::bigint FROM pending_batches) AS events, last_seq, horizon
FROM sequence, horizon";

const LAST: &str = "SELECT coalesce(max(first_seq + events - 1), 0) FROM batches -- check_numbers";

const GAPS: &str = "-- check_numbers
SELECT after, first_seq FROM (
    SELECT first_seq, coalesce(lag(first_seq + events - 1) OVER (ORDER BY first_seq), 0) AS after FROM batches
) b WHERE first_seq <> after + 1 ORDER BY first_seq LIMIT 100";

/// Of a batch with times before the horizon some may have been dropped.
const BATCHES: &str = "-- check_batches
SELECT batch_id, b.first_seq, b.events, coalesce(e.found, 0) AS found, coalesce(e.places, 0) AS places, b.first_dt, b.last_dt
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
