//! Status query for one message; does not receive it or change its visibility.

use chrono::{DateTime, Utc};

use super::super::{FifoError, Result, SentMessage};
use super::PgFifo;

/// Status of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoMessageStatus {
    /// In its queue; number of receives so far.
    Queued(u32),
    /// Deleted at this time, by the database's clock.
    Deleted(DateTime<Utc>),
    /// Deleted a minute or longer ago, or moved to the dead letter queue.
    Lost,
}

impl PgFifo {
    /// Returns the status of a message; a deletion is known for one minute. One round trip.
    pub async fn message_status(
        &self,
        queue: &str,
        sent: &SentMessage,
    ) -> Result<FifoMessageStatus> {
        let sequence = i64::try_from(sent.sequence)
            .map_err(|_| FifoError::Invalid("no such number".to_owned()))?;
        let found: Option<(Option<i32>, Option<DateTime<Utc>>)> =
            store::statement("fifo_trace", FIFO_TRACE_SQL)
                .bind(queue)
                .bind(sequence)
                .fetch_optional(&self.pool)
                .await?;
        Ok(match found {
            Some((Some(receives), _)) => FifoMessageStatus::Queued(receives.unsigned_abs()),
            Some((None, Some(at))) => FifoMessageStatus::Deleted(at),
            _ => FifoMessageStatus::Lost,
        })
    }
}

/// Sequence numbers are unique over all queues.
const FIFO_TRACE_SQL: &str = "\
SELECT m.receives, NULL::timestamptz FROM fifo_messages m JOIN fifo_queues q USING (queue_id)
WHERE m.sequence = $2 AND q.name = $1
UNION ALL
SELECT NULL, d.deleted_at FROM fifo_deleted d WHERE d.sequence = $2";
