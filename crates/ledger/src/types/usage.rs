//! Check whether a shard has rows of a type.

use sqlx::PgPool;
use store::Result;

use super::LedgerTypeKind;

/// Whether a shard's database has an account, a held or awaited lock, or a state of the type.
pub async fn is_type_used(pool: &PgPool, kind: LedgerTypeKind, name: &str) -> Result<bool> {
    let sql = match kind {
        LedgerTypeKind::Account => "SELECT EXISTS (SELECT FROM accounts WHERE type = $1)",
        LedgerTypeKind::Lock => {
            "SELECT EXISTS (SELECT FROM locks WHERE type = $1
                            AND (state = 'w' OR state = 'h' AND expires_at > now()))"
        }
        LedgerTypeKind::State => "SELECT EXISTS (SELECT FROM states WHERE type = $1)",
    };
    store::statement("type_in_use", sql).bind(name).fetch_value(pool).await
}
