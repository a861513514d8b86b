//! Statistics of a shard: size, and backlog of sequencer, aggregator and exporter.

use chrono::{DateTime, Utc};
use store::PgOperation;

use crate::export::ExportProgress;
use crate::ids::SequenceNumber;
use crate::sharding::Shard;
use crate::types::{GroupingColumns, LedgerTypeCatalogue};

/// Statistics of a shard. `*_seq` are sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStats {
    /// Events written but not numbered yet.
    pub pending_events: i64,
    /// Last assigned sequence number.
    pub last_seq: SequenceNumber,
    /// Lowest `aggregated_seq` of the groupings of types that have accounts in the shard.
    pub aggregated_seq: SequenceNumber,
    /// Last sequence number recorded as exported.
    pub exported_seq: SequenceNumber,
    /// Current epoch of the export.
    pub export_epoch: i64,
    /// Why the exporter has stopped until an operator decides; `None` if it has not.
    pub export_alarm: Option<String>,
    /// Events before this moment have been dropped.
    pub horizon: Option<DateTime<Utc>>,
    /// Size of the shard's database, in bytes.
    pub database_bytes: i64,
    /// Duties (`sequencer`, `aggregator`, `exporter`) whose lease some process holds.
    pub leased_duties: Vec<String>,
}

impl ShardStats {
    /// Current statistics. Two round trips; their cost grows
    /// with groupings and pending batches, not with events.
    pub async fn load(shard: &Shard, types: &LedgerTypeCatalogue) -> store::Result<Self> {
        // Read first, so that `exported_seq` never exceeds `last_seq`.
        let export = ExportProgress::load(&shard.pool).await?;
        let groupings = GroupingColumns::from_catalogue(types);
        let operation = PgOperation::named("shard_figures").expensive();
        let row: ShardStatsRow = store::statement(operation, SHARD_STATS_SQL)
            .bind(&groupings.types)
            .bind(&groupings.attributes)
            .bind(&groupings.intervals)
            .fetch_one(&shard.pool)
            .await?;
        Ok(row.into_stats(export))
    }
}

#[derive(store::FromRow)]
struct ShardStatsRow {
    pending: i64,
    last_seq: SequenceNumber,
    aggregated_seq: SequenceNumber,
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

/// `aggregated_seq` is the minimum over groupings of types that have accounts in this shard.
const SHARD_STATS_SQL: &str = "SELECT (SELECT coalesce(sum(events), 0)::bigint FROM pending_batches) AS pending, last_seq,
       coalesce((SELECT min(coalesce(g.aggregated_seq, 0))
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
                 LEFT JOIN groupings g USING (type, attributes, interval)
                 WHERE EXISTS (SELECT FROM accounts a WHERE a.type = w.type)), last_seq) AS aggregated_seq,
       pg_database_size(current_database()) AS database_bytes, (SELECT horizon FROM horizon) AS horizon,
       ARRAY(SELECT name FROM leases WHERE class LIKE 'duty/%' AND expires_at > now() ORDER BY name) AS on_duty
FROM sequence";
