//! Whether there is anything of a type on the shards.

use sqlx::PgPool;
use store::Result;

use super::Kind;

/// Whether there is an account, a lock that is held or waited for, or a state of a type in a shard's database. Nothing
/// is written.
pub async fn used_on(pool: &PgPool, kind: Kind, name: &str) -> Result<bool> {
    let name = name.to_owned();
    store::run(pool, "type_in_use", move |connection| {
        let name = name.clone();
        Box::pin(async move {
            let asked = match kind {
                Kind::Account => "SELECT EXISTS (SELECT FROM accounts WHERE type = $1) -- type_in_use",
                Kind::Lock => {
                    "SELECT EXISTS (SELECT FROM locks WHERE type = $1
                                    AND (state = 'w' OR state = 'h' AND expires_at > now())) -- type_in_use"
                }
                Kind::State => "SELECT EXISTS (SELECT FROM states WHERE type = $1) -- type_in_use",
            };
            Ok(sqlx::query_scalar(asked).bind(name).fetch_one(connection).await?)
        })
    })
    .await
}
