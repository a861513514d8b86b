//! Store of posting rules in the control database: each set of rules is an immutable version.

use reconcile::ObjectOwner;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::PostingRule;

/// NOTIFY channel for new versions of the rules.
pub const POSTING_RULES_CHANNEL: &str = "posting_rules";

/// A version of the posting rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingRuleSet {
    /// Version number, from 1 without gaps.
    pub version: i32,
    /// The rules, sorted by name.
    pub rules: Vec<PostingRule>,
    /// Owner of the whole set.
    pub owner: ObjectOwner,
}

/// The latest version; `None` if no rules were ever stored.
pub async fn load_posting_rules(pool: &PgPool) -> Result<Option<PostingRuleSet>> {
    store::run_statement(pool, "load_posting_rules", |connection| {
        Box::pin(read_posting_rules(connection))
    })
    .await
}

/// The latest version; `None` if no rules were ever stored.
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

/// Stores the next version and notifies all processes on commit. The caller holds the lock that
/// keeps versions without gaps; the first is 1.
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

/// The rules of one version; an unknown version is an error.
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
