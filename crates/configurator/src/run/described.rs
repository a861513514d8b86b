//! Lookup whether another block still describes an object that is to be deleted, for integrations
//! with access to the control database.

use sqlx::PgPool;
use store::Result;

use crate::ids::BlockId;

/// Whether the latest run of the message's instance has another block of the same integration whose
/// params have `value` in `field`. `false` for a message that was not sent from here.
pub async fn is_described_elsewhere(
    pool: &PgPool,
    block_id: BlockId,
    field: &'static str,
    value: &str,
) -> Result<bool> {
    store::statement("described_elsewhere", DESCRIBED_ELSEWHERE_SQL)
        .bind(block_id)
        .bind(field)
        .bind(value)
        .fetch_value(pool)
        .await
}

/// A block's params: as sent in this run, else as foreseen, else of its last success.
const DESCRIBED_ELSEWHERE_SQL: &str = "SELECT EXISTS (
    SELECT FROM configurator_sends s
    JOIN configurator_run_blocks own ON own.run_id = s.run_id AND own.ordinal = s.ordinal
    JOIN configurator_run_blocks b
        ON b.run_id = (SELECT max(r.run_id) FROM configurator_runs r WHERE r.instance_id = s.instance_id)
        AND b.integration = own.integration AND b.after_steps IS NULL
    LEFT JOIN configurator_stored o
        ON o.instance_id = s.instance_id AND o.name = b.name AND o.integration = b.integration
    LEFT JOIN configurator_sends t ON t.block_id = b.block_id
    WHERE s.block_id = $1 AND coalesce(t.params::json ->> $2, b.foreseen::json ->> $2, o.params::json ->> $2) = $3
      AND (s.action = 'delete' OR (b.run_id, b.ordinal) <> (own.run_id, own.ordinal))
)";
