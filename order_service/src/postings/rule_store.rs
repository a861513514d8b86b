//! The posting rules in the control database: each set of rules is a version of its own, and stays.

use reconcile::ObjectOwner;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::PostingRule;

/// The channel on which a new version is told.
pub const POSTING_RULES_CHANNEL: &str = "posting_rules";

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingRuleSet {
    /// Grows with every change.
    pub version: i32,
    /// The rules, by name.
    pub rules: Vec<PostingRule>,
    /// Whose they are.
    pub owner: ObjectOwner,
}

/// The rules in force; `None` if there never were any.
pub async fn load_posting_rules(pool: &PgPool) -> Result<Option<PostingRuleSet>> {
    store::run_statement(pool, "load_posting_rules", |connection| {
        Box::pin(read_posting_rules(connection))
    })
    .await
}

/// The rules in force; `None` if there never were any.
pub async fn read_posting_rules(connection: &mut PgConnection) -> Result<Option<PostingRuleSet>> {
    let row: Option<(i32, Json<Vec<PostingRule>>, String)> = sqlx::query_as(
        "SELECT version, rules, owner FROM posting_rules ORDER BY version DESC LIMIT 1 -- load_posting_rules",
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(version, Json(rules), owner)| PostingRuleSet {
        version,
        rules,
        owner: ObjectOwner::parse(&owner).unwrap_or(ObjectOwner::Api),
    }))
}

/// Puts a new set in force (versions have no gaps, and the first is 1: the caller keeps others out), and tells every process once the transaction is committed.
pub async fn put_posting_rules_in_tx(
    connection: &mut PgConnection,
    rules: &[PostingRule],
    owner: ObjectOwner,
) -> Result<i32> {
    let version = sqlx::query_scalar(
        "INSERT INTO posting_rules (version, rules, owner) OVERRIDING SYSTEM VALUE
         SELECT coalesce(max(version), 0) + 1, $1::jsonb, $2::text FROM posting_rules RETURNING version -- put_posting_rules",
    )
    .bind(Json(rules))
    .bind(owner.name())
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query("SELECT pg_notify($1, '') -- tell_posting_rules")
        .bind(POSTING_RULES_CHANNEL)
        .execute(connection)
        .await?;
    Ok(version)
}

/// The rules of one version; an error if there is no such version.
pub async fn load_rules_version(pool: &PgPool, version: i32) -> Result<Vec<PostingRule>> {
    store::run_statement(pool, "load_posting_rules_version", move |connection| {
        Box::pin(async move {
            let Json(rules): Json<Vec<PostingRule>> = sqlx::query_scalar(
                "SELECT rules FROM posting_rules WHERE version = $1 -- load_posting_rules_version",
            )
            .bind(version)
            .fetch_one(connection)
            .await?;
            Ok(rules)
        })
    })
    .await
}
