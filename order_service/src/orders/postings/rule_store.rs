//! Store of posting rules in the control database: each set of rules is an immutable version.

use reconcile::ObjectOwner;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use store::{Result, StatementTarget};

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

#[derive(store::FromRow)]
struct PostingRuleSetRow {
    version: i32,
    rules: Json<Vec<PostingRule>>,
    owner: String,
}

/// The latest version; `None` if no rules were ever stored.
pub async fn load_posting_rules(pool: &PgPool) -> Result<Option<PostingRuleSet>> {
    fetch_posting_rules(pool).await
}

/// The latest version; `None` if no rules were ever stored.
pub async fn read_posting_rules(connection: &mut PgConnection) -> Result<Option<PostingRuleSet>> {
    fetch_posting_rules(connection).await
}

async fn fetch_posting_rules(target: impl StatementTarget) -> Result<Option<PostingRuleSet>> {
    let row: Option<PostingRuleSetRow> = store::statement(
        "load_posting_rules",
        "SELECT version, rules, owner FROM posting_rules ORDER BY version DESC LIMIT 1",
    )
    .fetch_optional(target)
    .await?;
    Ok(row.map(|row| PostingRuleSet {
        version: row.version,
        rules: row.rules.0,
        owner: ObjectOwner::parse(&row.owner).unwrap_or(ObjectOwner::Api),
    }))
}

/// Stores the next version and notifies all processes on commit. The caller holds the lock that
/// keeps versions without gaps; the first is 1.
pub async fn put_posting_rules_in_tx(
    connection: &mut PgConnection,
    rules: &[PostingRule],
    owner: ObjectOwner,
) -> Result<i32> {
    let version = store::statement("put_posting_rules", PUT_POSTING_RULES_SQL)
        .bind(Json(rules))
        .bind(owner.name())
        .fetch_value(&mut *connection)
        .await?;
    store::statement("tell_posting_rules", "SELECT pg_notify($1, '')")
        .bind(POSTING_RULES_CHANNEL)
        .execute(connection)
        .await?;
    Ok(version)
}

/// The rules of one version; an unknown version is an error.
pub async fn load_rules_version(pool: &PgPool, version: i32) -> Result<Vec<PostingRule>> {
    let Json(rules): Json<Vec<PostingRule>> = store::statement(
        "load_posting_rules_version",
        "SELECT rules FROM posting_rules WHERE version = $1",
    )
    .bind(version)
    .fetch_value(pool)
    .await?;
    Ok(rules)
}

const PUT_POSTING_RULES_SQL: &str = "INSERT INTO posting_rules (version, rules, owner)
OVERRIDING SYSTEM VALUE
SELECT coalesce(max(version), 0) + 1, $1::jsonb, $2::text FROM posting_rules RETURNING version";
