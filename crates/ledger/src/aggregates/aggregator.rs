//! Aggregator of a shard: folds numbered events into aggregates, one chunk of batches at a time.
//!
//! - Shape: per chunk, one read of the batches' hourly sums and one write of deltas, both on one
//!   dedicated connection.
//! - Lock order: the lease, then `groupings` by id, then `aggregates`.
//! - Promise: each event is counted exactly once. The write is fenced by the lease and by the
//!   groupings' `aggregated_seq`, so a retry after a lost commit answer changes nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool};
use store::{
    ConnectionGeneration, Error, Lease, OwnConnection, PgStatement, Result, run_statement,
};

use super::GroupingRow;
use super::fold::{
    AggregateDeltas, AggregateSum, Grouping, HourlySum, fold_hourly_sums, format_units,
};
use crate::events::InternedText;
use crate::ids::{AccountId, AttributeSetId, SequenceNumber};
use crate::partitions::read_closing_sums;
use crate::sequence::SequenceNotifier;
use crate::sharding::parse_canonical;
use crate::types::{GroupingColumns, LedgerTypeCatalogue, LedgerTypeRegistry};

/// Approximate number of events per chunk.
const MAX_EVENTS_PER_CHUNK: i64 = 50_000;
/// Interval after a chunk of fewer than [`MIN_EVENTS_FOR_PAUSE`] events.
const SMALL_CHUNK_INTERVAL: Duration = Duration::from_millis(100);
/// From this many events on, [`LARGE_CHUNK_INTERVAL`] applies: the cost of a fold depends on the
/// sums it touches, hardly on the events.
const MIN_EVENTS_FOR_PAUSE: i64 = 1000;
/// Interval after a chunk of up to half of [`MAX_EVENTS_PER_CHUNK`]:
/// folding more events together is cheaper, and balances read
/// unaggregated events from their batches. A larger chunk has no pause.
const LARGE_CHUNK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum wait when idle: another process may have assigned numbers.
const MAX_IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Aggregates the events of one shard.
#[derive(Clone)]
pub struct Aggregator {
    /// Name of the shard.
    pub shard: String,
    /// Pool of the shard's database.
    pub pool: PgPool,
    /// Type catalogue; determines the groupings.
    pub types: LedgerTypeRegistry,
    /// Wakes the aggregator after new sequence numbers.
    pub notifier: SequenceNotifier,
}

impl Aggregator {
    /// Aggregates until the lease is lost or the database is unavailable.
    pub async fn run(self, lease: Arc<Lease>) {
        let own_connection = OwnConnection::open_beside(&self.pool);
        let mut last_seq = self.notifier.subscribe_last_seq();
        loop {
            last_seq.mark_unchanged();
            match self.aggregate_chunk(&own_connection, &lease).await {
                Ok(0) => drop(tokio::time::timeout(MAX_IDLE_INTERVAL, last_seq.changed()).await),
                Ok(events) if events < MIN_EVENTS_FOR_PAUSE => {
                    tokio::time::sleep(SMALL_CHUNK_INTERVAL).await
                }
                Ok(events) if events < MAX_EVENTS_PER_CHUNK / 2 => {
                    tokio::time::sleep(LARGE_CHUNK_INTERVAL).await
                }
                Ok(_) => {}
                Err(Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(shard = self.shard, %error, code = "UNAVAILABLE", "events not aggregated");
                    return;
                }
            }
        }
    }

    /// Folds one chunk into the groupings that lag most; returns its number of events. Read and
    /// write use the same connection: if the ledger is restored in between, the connection ends and
    /// the sums of lost events are not written.
    async fn aggregate_chunk(
        &self,
        own_connection: &OwnConnection,
        lease: &Arc<Lease>,
    ) -> Result<i64> {
        let catalogue = self.types.current();
        let groupings = load_groupings(own_connection.pool(), &catalogue).await?;
        let generation = own_connection.generation();
        let Some(aggregated_seq) = groupings.iter().map(|grouping| grouping.aggregated_seq).min()
        else {
            return Ok(0);
        };
        // Groupings that are ahead wait until the others have reached them.
        let next_aggregated_seq =
            groupings.iter().map(|g| g.aggregated_seq).filter(|seq| *seq > aggregated_seq).min();
        let lagging: Vec<Grouping> =
            groupings.into_iter().filter(|g| g.aggregated_seq == aggregated_seq).collect();
        let Some(chunk) =
            read_chunk(own_connection.pool(), aggregated_seq, next_aggregated_seq).await?
        else {
            return Ok(0);
        };
        let (last_seq, mut hourly_sums) = chunk;
        if aggregated_seq == SequenceNumber::ZERO {
            hourly_sums.extend(read_closing_hourly_sums(own_connection.pool(), &lagging).await?);
        }
        let write = AggregateWrite {
            grouping_ids: lagging.iter().map(|grouping| grouping.id).collect(),
            after_seq: aggregated_seq,
            last_seq,
            deltas: fold_hourly_sums(&hourly_sums, &lagging),
        };
        drop(hourly_sums);
        store::fail_point("aggregating");
        match write_aggregates(own_connection.pool(), lease, generation, write).await? {
            None => return Err(lease.fenced_error()),
            // An earlier attempt committed but its answer was lost,
            // or the connection was lost: read again immediately.
            Some(false) => return Ok(MAX_EVENTS_PER_CHUNK),
            Some(true) => {}
        }
        store::fail_point("aggregated");
        metrics::counter!("ledger_events_aggregated_total", "shard" => self.shard.clone())
            .increment(last_seq.distance_from(aggregated_seq).unsigned_abs());
        Ok(last_seq.distance_from(aggregated_seq))
    }
}

/// Progress of the configured groupings; inserts new ones with `aggregated_seq` 0, or with the last
/// sequence number if the type has no accounts.
async fn load_groupings(pool: &PgPool, catalogue: &LedgerTypeCatalogue) -> Result<Vec<Grouping>> {
    let configured = GroupingColumns::from_catalogue(catalogue);
    let rows: Vec<GroupingRow> = store::statement("groupings", UPSERT_GROUPINGS_SQL)
        .bind(configured.types)
        .bind(configured.attributes)
        .bind(configured.intervals)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().filter_map(Grouping::from_row).collect())
}

/// Batches after `after_seq` up to `max_seq`: the last number in them, and their events summed by
/// account, attribute set and hour. `None` if there are none.
async fn read_chunk(
    pool: &PgPool,
    after_seq: SequenceNumber,
    max_seq: Option<SequenceNumber>,
) -> Result<Option<(SequenceNumber, Vec<HourlySum>)>> {
    let rows: Vec<AggregateChunkRow> = run_statement(pool, "aggregate_chunk", move |connection| {
        Box::pin(async move {
            let rows = store::statement("aggregate_chunk", READ_CHUNK_SQL)
                .bind(after_seq)
                .bind(max_seq.unwrap_or(SequenceNumber::MAX))
                .bind(MAX_EVENTS_PER_CHUNK)
                .fetch_all(&mut *connection)
                .await?;
            check_chunk_complete(connection, after_seq, &rows).await?;
            Ok(rows)
        })
    })
    .await?;
    let Some(last_seq) = rows.first().map(|row| row.last_seq) else { return Ok(None) };
    let mut hourly_sums = Vec::with_capacity(rows.len());
    for row in rows.into_iter().filter(|row| row.type_name.is_some()) {
        hourly_sums.push(parse_hourly_sum(row)?);
    }
    Ok(Some((last_seq, hourly_sums)))
}

/// Checks that each number of the chunk has its event, except where events were dropped. Numbers
/// are gap-free, so one comparison of counts suffices. Without it a missed event would be missing
/// from every balance forever.
async fn check_chunk_complete(
    connection: &mut PgConnection,
    after_seq: SequenceNumber,
    rows: &[AggregateChunkRow],
) -> Result<()> {
    let Some(upto) = rows.first().map(|row| row.last_seq) else { return Ok(()) };
    let found: i64 = rows.iter().filter_map(|row| row.events).sum();
    if found == upto.distance_from(after_seq) {
        return Ok(());
    }
    let gaps: SequenceNumber = store::statement("event_gaps", "SELECT upto FROM event_gaps")
        .fetch_value(&mut *connection)
        .await?;
    if after_seq < gaps && found < upto.distance_from(after_seq) {
        return Ok(());
    }
    metrics::counter!("ledger_chunks_not_whole_total").increment(1);
    tracing::error!(
        after = after_seq.get(),
        upto = upto.get(),
        found,
        code = "CONSISTENCY_ERROR",
        "events are missing: not aggregated"
    );
    // In case this backend misses a partition (stale relcache): end it, the next one will find it.
    let _ =
        store::statement("end_this_connection", "SELECT pg_terminate_backend(pg_backend_pid())")
            .execute(connection)
            .await;
    Err(sqlx::Error::Protocol(format!(
        "of the events {} to {upto} only {found} were found",
        after_seq.next()
    ))
    .into())
}

/// A row of `numbered_sums`; only `last_seq` is set if the chunk's events were dropped.
#[derive(store::FromRow)]
struct AggregateChunkRow {
    /// Last number of the chunk.
    last_seq: SequenceNumber,
    type_name: Option<String>,
    account: Option<AccountId>,
    /// Attribute set, in canonical text.
    tuple: Option<String>,
    hour: Option<DateTime<Utc>>,
    debit: Option<String>,
    credit: Option<String>,
    events: Option<i64>,
}

/// An unreadable sum is an error, never skipped: it would be missing from every balance.
fn parse_hourly_sum(row: AggregateChunkRow) -> Result<HourlySum> {
    let sum = try_parse_hourly_sum(row);
    Ok(sum.ok_or_else(|| sqlx::Error::Decode("sums that are no numbers".into()))?)
}

fn try_parse_hourly_sum(row: AggregateChunkRow) -> Option<HourlySum> {
    let (debit, credit) = (row.debit?.parse().ok()?, row.credit?.parse().ok()?);
    Some(HourlySum {
        type_name: row.type_name?,
        account_id: row.account?,
        attribute_set: row.tuple?,
        hour: row.hour?,
        sum: AggregateSum { debit, credit, event_count: row.events? },
    })
}

/// Sums of events that were dropped before these groupings began.
async fn read_closing_hourly_sums(pool: &PgPool, groupings: &[Grouping]) -> Result<Vec<HourlySum>> {
    let types = groupings.iter().map(|grouping| grouping.type_name.clone()).collect();
    let mut hourly_sums = Vec::new();
    for (type_name, account_id, attribute_set, hour, debit, credit, events) in
        read_closing_sums(pool, types).await?
    {
        hourly_sums.push(parse_hourly_sum(AggregateChunkRow {
            last_seq: SequenceNumber::ZERO,
            type_name: Some(type_name),
            account: Some(account_id),
            tuple: Some(attribute_set),
            hour: Some(hour),
            debit: Some(debit),
            credit: Some(credit),
            events: Some(events),
        })?);
    }
    Ok(hourly_sums)
}

/// A chunk's write: which groupings advance from where to where, and by which deltas.
struct AggregateWrite {
    grouping_ids: Vec<i32>,
    after_seq: SequenceNumber,
    last_seq: SequenceNumber,
    deltas: AggregateDeltas,
}

impl AggregateWrite {
    /// Encodes the statement. Done for each attempt, so that only the deltas are kept between
    /// attempts, and one encoded copy exists at a time.
    fn build_statement(&self, lease: &Lease) -> PgStatement {
        let AggregateDeltas { sums, groups } = &self.deltas;
        store::statement("fold_aggregates", FOLD_AGGREGATES_SQL)
            .bind(lease.id)
            .bind(lease.epoch)
            .bind(&self.grouping_ids)
            .bind(self.after_seq)
            .bind(self.last_seq)
            .bind(groups.keys().copied().collect::<Vec<_>>())
            .bind(groups.values().map(|group| group.canonical.as_str()).collect::<Vec<_>>())
            .bind(groups.values().map(format_group_object).collect::<Vec<_>>())
            .bind(sums.iter().map(|(key, _)| key.account_id).collect::<Vec<_>>())
            .bind(sums.iter().map(|(key, _)| key.grouping_id).collect::<Vec<_>>())
            .bind(sums.iter().map(|(key, _)| key.level.letter()).collect::<Vec<_>>())
            .bind(sums.iter().map(|(key, _)| key.period_start).collect::<Vec<_>>())
            .bind(sums.iter().map(|(key, _)| key.group_id).collect::<Vec<_>>())
            .bind(sums.iter().map(|(_, sum)| format_units(sum.debit)).collect::<Vec<_>>())
            .bind(sums.iter().map(|(_, sum)| format_units(sum.credit)).collect::<Vec<_>>())
            .bind(sums.iter().map(|(_, sum)| sum.event_count).collect::<Vec<_>>())
    }
}

/// `None`: the lease is lost. `Some(false)`: nothing is written, because an earlier attempt was
/// committed or the connection of `generation` is lost.
async fn write_aggregates(
    pool: &PgPool,
    lease: &Arc<Lease>,
    generation: ConnectionGeneration,
    write: AggregateWrite,
) -> Result<Option<bool>> {
    let shared = Arc::new((lease.clone(), write));
    let written = generation.run_statement(pool, "fold_aggregates", move |connection| {
        let shared = shared.clone();
        Box::pin(async move {
            let (lease, write) = &*shared;
            write.build_statement(lease).fetch_value(connection).await
        })
    });
    Ok(written.await?.unwrap_or(Some(false)))
}

/// The group's attributes as a JSON object.
fn format_group_object(group: &InternedText<AttributeSetId>) -> String {
    let pairs = parse_canonical(&group.canonical).into_iter();
    let object: Map<_, _> = pairs.map(|(name, value)| (name, value.into())).collect();
    Value::Object(object).to_string()
}

const UPSERT_GROUPINGS_SQL: &str = "WITH wanted AS MATERIALIZED (
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

const READ_CHUNK_SQL: &str = "SELECT * FROM numbered_sums($1, $2, $3)";

const FOLD_AGGREGATES_SQL: &str =
    "SELECT fold_aggregates($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
