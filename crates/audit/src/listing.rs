//! Reading the audit trail, newest first.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value as Json, json};
use sqlx::PgPool;
use store::{PgOperation, Result};

use crate::action::AuditAction;

/// Entries per page by default.
pub const DEFAULT_ENTRIES_PER_PAGE: i64 = 100;
/// Maximum entries per page: 8 MiB of differences.
pub const MAX_ENTRIES_PER_PAGE: i64 = 500;

store::id_type! {
    /// Id of an entry, ascending by time of the act, except for concurrent ones.
    pub struct AuditId(i64);
}

/// Filter of a listing; a field that is `None` does not restrict it.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Name of the actor.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<AuditAction>,
    /// The object, as `kind/name`.
    pub object: Option<String>,
    /// Not older than this.
    pub from: Option<DateTime<Utc>>,
    /// Older than this.
    pub to: Option<DateTime<Utc>>,
    /// Cursor: only entries with smaller ids.
    pub before: Option<AuditId>,
    /// Length of the page.
    pub limit: i64,
}

/// An entry of the audit trail.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct AuditRow {
    /// Id of the entry.
    pub audit_id: AuditId,
    /// When, by the database's clock: the beginning of the transaction.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// From which address or host.
    pub origin: String,
    /// What, by [`AuditAction::name`].
    pub action: String,
    /// To what, as `kind/name`.
    pub object: String,
    /// What it changed.
    pub difference: Json,
}

impl AuditRow {
    /// The entry as in the API.
    pub fn to_json(&self) -> Json {
        json!({
            "id": self.audit_id.get(),
            "at": self.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "actor": self.actor,
            "origin": self.origin,
            "action": self.action,
            "object": self.object,
            "difference": self.difference,
        })
    }
}

/// A page of the audit trail, newest first.
pub async fn list_entries(pool: &PgPool, filter: AuditFilter) -> Result<Vec<AuditRow>> {
    store::statement(PgOperation::named("list_audit").expensive(), LIST_SQL)
        .bind(filter.before)
        .bind(filter.actor)
        .bind(filter.action.map(AuditAction::name))
        .bind(filter.object)
        .bind(filter.from)
        .bind(filter.to)
        .bind(filter.limit)
        .fetch_all(pool)
        .await
}

const LIST_SQL: &str = "SELECT audit_id, at, actor, origin, action, object, difference FROM audit
WHERE ($1::bigint IS NULL OR audit_id < $1) AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR action = $3)
      AND ($4::text IS NULL OR object = $4) AND ($5::timestamptz IS NULL OR at >= $5) AND ($6::timestamptz IS NULL OR at < $6)
ORDER BY audit_id DESC LIMIT $7";
