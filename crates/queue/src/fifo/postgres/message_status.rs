//! Where a message stands, for who only looks: it is neither received nor kept from anybody.

use chrono::{DateTime, Utc};

use super::super::{FifoError, Result, SentMessage};
use super::PgFifo;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoMessageStatus {
    /// In its queue, received so often.
    Queued(u32),
    /// Deleted at this moment, by the database's clock.
    Deleted(DateTime<Utc>),
    /// It has been gone for a minute or longer, or is among the dead letters.
    Lost,
}

impl PgFifo {
    /// Where a message of the queue stands; what was deleted is known for a minute. One statement.
    pub async fn message_status(
        &self,
        queue: &str,
        sent: &SentMessage,
    ) -> Result<FifoMessageStatus> {
        let queue = queue.to_owned();
        let sequence = i64::try_from(sent.sequence)
            .map_err(|_| FifoError::Invalid("no such number".to_owned()))?;
        let found: Option<(Option<i32>, Option<DateTime<Utc>>)> =
            store::run_statement(&self.pool, "fifo_trace", move |connection| {
                let queue = queue.clone();
                Box::pin(async move {
                    Ok(sqlx::query_as(FIFO_TRACE_SQL)
                        .bind(queue)
                        .bind(sequence)
                        .fetch_optional(connection)
                        .await?)
                })
            })
            .await?;
        Ok(match found {
            Some((Some(receives), _)) => FifoMessageStatus::Queued(receives.unsigned_abs()),
            Some((None, Some(at))) => FifoMessageStatus::Deleted(at),
            _ => FifoMessageStatus::Lost,
        })
    }
}

/// Numbers of messages are unique among all queues.
const FIFO_TRACE_SQL: &str = "-- fifo_trace
SELECT m.receives, NULL::timestamptz FROM fifo_messages m JOIN fifo_queues q USING (queue_id)
WHERE m.sequence = $2 AND q.name = $1
UNION ALL
SELECT NULL, d.deleted_at FROM fifo_deleted d WHERE d.sequence = $2";
