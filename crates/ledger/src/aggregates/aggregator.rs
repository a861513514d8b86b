//! The aggregator of a shard: folds numbered events into sums, a chunk of batches at a time, each exactly once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool};
use store::{Error, Generation, Lease, OwnConnection, Result, run};

use super::fold::{Folded, Grouping, Hourly, decimal, fold};
use super::kept;
use crate::partitions::closing_sums;
use crate::sequence::Wake;
use crate::sharding::parse_canonical;
use crate::types::{Catalogue, Interval, Types};

/// About so many events are folded at a time.
const CHUNK: i64 = 50_000;
/// The pause after a chunk of a few events.
const CALM: Duration = Duration::from_millis(100);
/// What is no longer a few: a fold costs by the sums that it touches, hardly by the events in them.
const MANY: i64 = 1000;
/// The pause after a chunk of many: what is folded together costs less, and what is not folded yet is read from its batches.
const BUSY: Duration = Duration::from_secs(1);
/// The longest pause: numbers may have been given by another process.
const IDLE: Duration = Duration::from_secs(1);

/// Aggregates one shard's events.
#[derive(Clone)]
pub struct Aggregator {
    /// The shard's name.
    pub shard: String,
    /// Its database.
    pub pool: PgPool,
    /// The types, which say what is kept.
    pub types: Types,
    /// What wakes it.
    pub wake: Wake,
}

impl Aggregator {
    /// Aggregates until the lease is lost or the database does not answer.
    pub async fn run(self, lease: Arc<Lease>) {
        let own = OwnConnection::beside(&self.pool);
        let mut last = self.wake.last();
        loop {
            last.mark_unchanged();
            match self.step(&own, &lease).await {
                Ok(0) => drop(tokio::time::timeout(IDLE, last.changed()).await),
                Ok(events) if events < MANY => tokio::time::sleep(CALM).await,
                Ok(events) if events < CHUNK / 2 => tokio::time::sleep(BUSY).await,
                Ok(_) => {}
                Err(Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(shard = self.shard, %error, code = "UNAVAILABLE", "events not aggregated");
                    return;
                }
            }
        }
    }

    /// Folds one chunk into the groupings that lag most; how many events it had. What is read and what is written is of one
    /// connection: a ledger that is put back in between would get sums of events that it does not have.
    async fn step(&self, own: &OwnConnection, lease: &Arc<Lease>) -> Result<i64> {
        let catalogue = self.types.now();
        let groupings = groupings(own.pool(), &catalogue).await?;
        let generation = own.generation();
        let Some(at) = groupings.iter().map(|grouping| grouping.aggregated_seq).min() else { return Ok(0) };
        // Those that are ahead wait at their place until the others have come there.
        let ahead = groupings.iter().map(|g| g.aggregated_seq).filter(|seq| *seq > at).min();
        let folded: Vec<Grouping> = groupings.into_iter().filter(|g| g.aggregated_seq == at).collect();
        let Some(chunk) = chunk(own.pool(), at, ahead).await? else { return Ok(0) };
        let (upto, mut hourly) = chunk;
        if at == 0 {
            hourly.extend(closing(own.pool(), &folded).await?);
        }
        let sums = fold(&hourly, &folded);
        let ids: Vec<i32> = folded.iter().map(|grouping| grouping.id).collect();
        store::fail_point("aggregating");
        match write(own.pool(), lease, generation, ids, at, upto, sums).await? {
            None => return Err(lease.fenced()),
            // Done already, by a try whose answer was lost; or the connection was: what was read is read again.
            Some(false) => return Ok(CHUNK),
            Some(true) => {}
        }
        store::fail_point("aggregated");
        metrics::counter!("ledger_events_aggregated_total", "shard" => self.shard.clone())
            .increment((upto - at).unsigned_abs());
        Ok(upto - at)
    }
}

/// The kept groupings as they stand; those that are new begin here. One of a type without accounts begins at the end.
async fn groupings(pool: &PgPool, catalogue: &Catalogue) -> Result<Vec<Grouping>> {
    let wanted = catalogue.accounts.values().flat_map(|kind| {
        let wanted = |attributes| (kind.name.clone(), attributes, kind.aggregate);
        kept(kind).into_iter().map(wanted)
    });
    let wanted: Arc<[(String, String, Interval)]> = wanted.collect();
    let asked = wanted.clone();
    let rows: Vec<(i32, String, String, String, i64)> = run(pool, "groupings", move |connection| {
        let (types, attributes): (Vec<_>, Vec<_>) = asked.iter().map(|w| (w.0.clone(), w.1.clone())).unzip();
        let intervals: Vec<&str> = asked.iter().map(|wanted| wanted.2.name()).collect();
        Box::pin(async move {
            let rows = sqlx::query_as(GROUPINGS).bind(types).bind(attributes).bind(intervals);
            Ok(rows.fetch_all(connection).await?)
        })
    })
    .await?;
    let grouping =
        |(id, type_name, attributes, interval, aggregated_seq): (i32, String, String, String, i64)| {
            let interval = wanted.iter().map(|wanted| wanted.2).find(|known| known.name() == interval)?;
            let attributes =
                attributes.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(Grouping { id, type_name, attributes, interval, aggregated_seq })
        };
    Ok(rows.into_iter().filter_map(grouping).collect())
}

/// The batches after `at`, not beyond `limit`: the last number in them, and their events by account, combination and
/// hour. `None` if there are none.
async fn chunk(pool: &PgPool, at: i64, limit: Option<i64>) -> Result<Option<(i64, Vec<Hourly>)>> {
    let rows: Vec<Row> = run(pool, "aggregate_chunk", move |connection| {
        Box::pin(async move {
            let rows = sqlx::query_as(CHUNK_OF_EVENTS).bind(at).bind(limit.unwrap_or(i64::MAX)).bind(CHUNK);
            let rows = rows.fetch_all(&mut *connection).await?;
            all_found(connection, at, &rows).await?;
            Ok(rows)
        })
    })
    .await?;
    let Some(upto) = rows.first().map(|row| row.0) else { return Ok(None) };
    let hourly: Option<Vec<Hourly>> = rows.into_iter().filter(|row| row.1.is_some()).map(hourly).collect();
    // Never in silence: what is left out here would be missing from every balance.
    let hourly = hourly.ok_or_else(|| sqlx::Error::Decode("sums that are no numbers".into()))?;
    Ok(Some((upto, hourly)))
}

/// Makes sure that every number of the chunk has its event, unless events were dropped among them. Numbers have no gaps, so
/// that is one comparison; without it an event that was not found would be missing from every balance for ever.
async fn all_found(connection: &mut PgConnection, at: i64, rows: &[Row]) -> Result<()> {
    let Some(upto) = rows.first().map(|row| row.0) else { return Ok(()) };
    let found: i64 = rows.iter().filter_map(|row| row.7).sum();
    if found == upto - at {
        return Ok(());
    }
    let gaps = sqlx::query_scalar("SELECT upto FROM event_gaps -- event_gaps");
    let gaps: i64 = gaps.fetch_one(&mut *connection).await?;
    if at < gaps && found < upto - at {
        return Ok(());
    }
    metrics::counter!("ledger_chunks_not_whole_total").increment(1);
    tracing::error!(
        after = at,
        upto,
        found,
        code = "CONSISTENCY_ERROR",
        "events are missing: not aggregated"
    );
    // Should it be this connection that does not find them, the next one will.
    let _ = sqlx::query("SELECT pg_terminate_backend(pg_backend_pid()) -- end_this_connection")
        .execute(connection)
        .await;
    Err(sqlx::Error::Protocol(format!("of the events {} to {upto} only {found} were found", at + 1)).into())
}

/// The last number of the chunk; and, unless its events are gone, their type, account, combination, hour, sums and number.
type Row = (
    i64,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<DateTime<Utc>>,
    Option<String>,
    Option<String>,
    Option<i64>,
);

fn hourly((_, type_name, account_id, tuple, hour, debit, credit, events): Row) -> Option<Hourly> {
    let (debit, credit) = (debit?.parse().ok()?, credit?.parse().ok()?);
    Some(Hourly {
        type_name: type_name?,
        account_id: account_id?,
        tuple: tuple?,
        hour: hour?,
        debit,
        credit,
        events: events?,
    })
}

/// What was dropped before these groupings began.
async fn closing(pool: &PgPool, folded: &[Grouping]) -> Result<Vec<Hourly>> {
    let types = folded.iter().map(|grouping| grouping.type_name.clone()).collect();
    let sums = closing_sums(pool, types).await?.into_iter();
    let row = |(type_name, account_id, tuple, hour, debit, credit, events)| {
        hourly((
            0,
            Some(type_name),
            Some(account_id),
            Some(tuple),
            Some(hour),
            Some(debit),
            Some(credit),
            Some(events),
        ))
    };
    let hourly: Option<Vec<Hourly>> = sums.map(row).collect();
    Ok(hourly.ok_or_else(|| sqlx::Error::Decode("sums that are no numbers".into()))?)
}

async fn write(
    pool: &PgPool,
    lease: &Arc<Lease>,
    generation: Generation,
    ids: Vec<i32>,
    at: i64,
    upto: i64,
    folded: Folded,
) -> Result<Option<bool>> {
    let (lease, folded) = (lease.clone(), Arc::new(folded));
    run(pool, "fold_aggregates", move |connection| {
        let (lease, folded, ids) = (lease.clone(), folded.clone(), ids.clone());
        let over = generation.is_over();
        Box::pin(async move {
            if over {
                return Ok(Some(false));
            }
            let keys: Vec<_> = folded.sums.iter().map(|(key, _)| key).collect();
            let objects = folded.groups.values().map(|group| {
                let pairs = parse_canonical(&group.canonical).into_iter();
                let object: Map<_, _> = pairs.map(|(name, value)| (name, value.into())).collect();
                Value::Object(object).to_string()
            });
            let done: Option<bool> = sqlx::query_scalar(FOLD)
                .bind(lease.id)
                .bind(lease.epoch)
                .bind(&ids)
                .bind(at)
                .bind(upto)
                .bind(folded.groups.keys().copied().collect::<Vec<_>>())
                .bind(folded.groups.values().map(|group| group.canonical.clone()).collect::<Vec<_>>())
                .bind(objects.collect::<Vec<_>>())
                .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
                .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
                .bind(keys.iter().map(|key| key.2.letter()).collect::<Vec<_>>())
                .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>())
                .bind(keys.iter().map(|key| key.4).collect::<Vec<_>>())
                .bind(folded.sums.iter().map(|(_, sum)| decimal(sum.0)).collect::<Vec<_>>())
                .bind(folded.sums.iter().map(|(_, sum)| decimal(sum.1)).collect::<Vec<_>>())
                .bind(folded.sums.iter().map(|(_, sum)| sum.2).collect::<Vec<_>>())
                .fetch_one(connection)
                .await?;
            Ok(done)
        })
    })
    .await
}

const GROUPINGS: &str = "-- groupings
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
), new AS (
    INSERT INTO groupings (type, attributes, interval, aggregated_seq)
    SELECT w.type, w.attributes, w.interval,
           CASE WHEN EXISTS (SELECT FROM accounts a WHERE a.type = w.type) THEN 0 ELSE s.last_seq END
    FROM wanted w CROSS JOIN sequence s
    WHERE NOT EXISTS (SELECT FROM groupings g WHERE (g.type, g.attributes, g.interval) = (w.type, w.attributes, w.interval))
    ON CONFLICT DO NOTHING
    RETURNING grouping_id, type, attributes, interval, aggregated_seq
)
SELECT g.grouping_id, g.type, g.attributes, g.interval, g.aggregated_seq
FROM groupings g JOIN wanted w USING (type, attributes, interval)
UNION ALL SELECT * FROM new";

const CHUNK_OF_EVENTS: &str = "SELECT * FROM numbered_sums($1, $2, $3) -- aggregate_chunk";

const FOLD: &str = "SELECT fold_aggregates($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) -- fold_aggregates";
