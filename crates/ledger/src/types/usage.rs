//! Check whether a shard has rows of a type.

use sqlx::PgPool;
use store::Result;

use super::LedgerTypeKind;

/// Whether a shard's database has an account, a held or awaited lock, or a state of the type.
pub async fn is_type_used(pool: &PgPool, kind: LedgerTypeKind, name: &str) -> Result<bool> {
    let name = name.to_owned();
    store::run_statement(pool, "type_in_use", move |connection| {
        let name = name.clone();
        Box::pin(async move {
            let asked = match kind {
                LedgerTypeKind::Account => {
                    "SELECT EXISTS (SELECT FROM accounts WHERE type = $1) -- type_in_use"
                }
                LedgerTypeKind::Lock => {
                    "SELECT EXISTS (SELECT FROM locks WHERE type = $1
                                    AND (state = 'w' OR state = 'h' AND expires_at > now())) -- type_in_use"
                }
                LedgerTypeKind::State => "SELECT EXISTS (SELECT FROM states WHERE type = $1) -- type_in_use",
            };
            Ok(sqlx::query_scalar(asked).bind(name).fetch_one(connection).await?)
        })
    })
    .await
}
