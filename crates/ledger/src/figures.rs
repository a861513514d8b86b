//! How much a shard holds, and how far numbering, aggregates and export are behind.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use store::Operation;

use crate::aggregates::Wanted;
use crate::export::Progress;
use crate::sharding::Shard;
use crate::types::Catalogue;

/// A shard's figures. Numbers count events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Written, and not numbered yet.
    pub pending: i64,
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
    pub on_duty: Vec<String>,
}

impl Figures {
    /// As they are now: two round trips, whose cost grows with the groupings and the batches that wait, not with the events.
    pub async fn load(shard: &Shard, types: &Catalogue) -> store::Result<Self> {
        // Nothing is shown as exported before it is shown as numbered.
        let export = Progress::load(&shard.pool).await?;
        let wanted = Arc::new(Wanted::of(types));
        store::run(&shard.pool, Operation::named("shard_figures").expensive(), move |connection| {
            let (wanted, export) = (wanted.clone(), export.clone());
            Box::pin(async move {
                let row: Row = sqlx::query_as(FIGURES)
                    .bind(&wanted.types)
                    .bind(&wanted.attributes)
                    .bind(&wanted.intervals)
                    .fetch_one(connection)
                    .await?;
                Ok(row.figures(export))
            })
        })
        .await
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    pending: i64,
    last_seq: i64,
    aggregated_seq: i64,
    database_bytes: i64,
    horizon: Option<DateTime<Utc>>,
    on_duty: Vec<String>,
}

impl Row {
    fn figures(self, export: Progress) -> Figures {
        let Self { pending, last_seq, aggregated_seq, database_bytes, horizon, on_duty } = self;
        Figures {
            pending,
            last_seq,
            aggregated_seq,
            exported_seq: export.exported_seq,
            export_epoch: export.epoch,
            export_alarm: export.alarm,
            horizon,
            database_bytes,
            on_duty,
        }
    }
}

/// Aggregates have come as far as the last of them that is kept for a type with accounts here.
const FIGURES: &str = "-- shard_figures
SELECT (SELECT coalesce(sum(events), 0)::bigint FROM pending_batches) AS pending, last_seq,
       coalesce((SELECT min(coalesce(g.aggregated_seq, 0))
                 FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
                 LEFT JOIN groupings g USING (type, attributes, interval)
                 WHERE EXISTS (SELECT FROM accounts a WHERE a.type = w.type)), last_seq) AS aggregated_seq,
       pg_database_size(current_database()) AS database_bytes, (SELECT horizon FROM horizon) AS horizon,
       ARRAY(SELECT name FROM leases WHERE class LIKE 'duty/%' AND expires_at > now() ORDER BY name) AS on_duty
FROM sequence";
