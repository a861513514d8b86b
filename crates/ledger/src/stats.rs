//! How much a shard holds, and how far numbering, aggregates and export are behind.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use store::PgOperation;

use crate::aggregates::GroupingColumns;
use crate::export::ExportProgress;
use crate::sharding::Shard;
use crate::types::LedgerTypeCatalogue;

/// A shard's figures. Numbers count events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStats {
    /// Written, and not numbered yet.
    pub pending_events: i64,
    /// The last number given.
    pub last_seq: i64,
    /// The number up to which all aggregates that are kept for the types here have come.
    pub aggregated_seq: i64,
    /// The last number that is known to be exported.
    pub exported_seq: i64,
    /// The export's epoch.
    pub export_epoch: i64,
    /// Why the exporter has stopped and waits for somebody's decision.
    pub export_alarm: Option<String>,
    /// Events before it have been dropped.
    pub horizon: Option<DateTime<Utc>>,
    /// Size of the shard's database, in bytes.
    pub database_bytes: i64,
    /// The duties (`sequencer`, `aggregator`, `exporter`) that some process holds the lease of.
    pub leased_duties: Vec<String>,
}

impl ShardStats {
    /// As they are now: two round trips, whose cost grows with the groupings and the batches that wait, not with the events.
    pub async fn load(shard: &Shard, types: &LedgerTypeCatalogue) -> store::Result<Self> {
        // Nothing is shown as exported before it is shown as numbered.
        let export = ExportProgress::load(&shard.pool).await?;
        let groupings = Arc::new(GroupingColumns::from_catalogue(types));
        store::run_statement(
            &shard.pool,
            PgOperation::named("shard_figures").expensive(),
            move |connection| {
                let (groupings, export) = (groupings.clone(), export.clone());
                Box::pin(async move {
                    let row: ShardStatsRow = sqlx::query_as(SHARD_STATS_SQL)
                        .bind(&groupings.types)
                        .bind(&groupings.attributes)
                        .bind(&groupings.intervals)
                        .fetch_one(connection)
                        .await?;
                    Ok(row.into_stats(export))
                })
            },
        )
        .await
    }
}

#[derive(sqlx::FromRow)]
struct ShardStatsRow {
    pending: i64,
    last_seq: i64,
    aggregated_seq: i64,
    database_bytes: i64,
    horizon: Option<DateTime<Utc>>,
    on_duty: Vec<String>,
}

impl ShardStatsRow {
    fn into_stats(self, export: ExportProgress) -> ShardStats {
        let Self { pending, last_seq, aggregated_seq, database_bytes, horizon, on_duty } = self;
        ShardStats {
            pending_events: pending,
            last_seq,
            aggregated_seq,
            exported_seq: export.exported_seq,
            export_epoch: export.epoch,
            export_alarm: export.alarm,
            horizon,
            database_bytes,
            leased_duties: on_duty,
        }
    }
}

/// Aggregates have come as far as the last of them that is kept for a type with accounts here.
const SHARD_STATS_SQL: &str = "-- shard_figures
SELECT (SELECT coalesce(sum(events), 0)::bigint FROM pending_batches) AS pending, last_seq,
       coalesce((SELECT min(coalesce(g.aggregated_seq, 0))
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
                 LEFT JOIN groupings g USING (type, attributes, interval)
                 WHERE EXISTS (SELECT FROM accounts a WHERE a.type = w.type)), last_seq) AS aggregated_seq,
       pg_database_size(current_database()) AS database_bytes, (SELECT horizon FROM horizon) AS horizon,
       ARRAY(SELECT name FROM leases WHERE class LIKE 'duty/%' AND expires_at > now() ORDER BY name) AS on_duty
FROM sequence";
