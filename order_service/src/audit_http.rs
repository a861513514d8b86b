//! `GET /api/v1/audit`: the audit trail, newest first.

use access::Scope;
use audit::{AuditAction, AuditFilter, DEFAULT_ENTRIES_PER_PAGE, MAX_ENTRIES_PER_PAGE};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Datelike as _, Utc};
use serde_json::{Value, json};
use serving::body;
use serving::error::{ApiError, control_database_error};
use serving::query::{DecodedQuery, parse_limit, unknown_parameter_error};
use serving::scoped_router::ScopedRouter;
use sqlx::PgPool;

/// Parameters of a listing.
const PARAMETERS: [&str; 7] = ["actor", "action", "object", "from", "to", "before", "limit"];

/// OpenAPI description of the route.
pub const OPENAPI_DOCUMENT: &str = include_str!("../openapi/audit.yaml");

/// Router of the audit trail in this control database.
pub fn audit_routes(pool: PgPool) -> ScopedRouter {
    ScopedRouter::new()
        .get("/api/v1/audit", Scope::Admin, list_audit)
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(pool)
}

async fn list_audit(
    State(pool): State<PgPool>,
    DecodedQuery(pairs): DecodedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let listed = audit::list_entries(&pool, parse_audit_filter(pairs)?).await;
    let listed = listed.map_err(control_database_error)?;
    Ok(Json(json!({"result": listed.iter().map(audit::AuditRow::to_json).collect::<Vec<_>>()})))
}

/// Parses the parameters of a listing; also those of the command `audit`.
pub fn parse_audit_filter(pairs: Vec<(String, String)>) -> Result<AuditFilter, ApiError> {
    let mut filter = AuditFilter { limit: DEFAULT_ENTRIES_PER_PAGE, ..AuditFilter::default() };
    for (name, value) in pairs {
        match name.as_str() {
            "actor" => filter.actor = Some(value.replace('\0', "")),
            "action" => filter.action = Some(parse_action(&value)?),
            "object" => filter.object = Some(value.replace('\0', "")),
            "from" => filter.from = Some(parse_time("from", &value)?),
            "to" => filter.to = Some(parse_time("to", &value)?),
            "before" => match value.parse() {
                Ok(before) => filter.before = Some(before),
                Err(_) => {
                    return Err(ApiError::invalid_field("before", "must be the id of an entry"));
                }
            },
            "limit" => filter.limit = parse_limit(&value, MAX_ENTRIES_PER_PAGE)?,
            _ => return Err(unknown_parameter_error(&name, &PARAMETERS)),
        }
    }
    Ok(filter)
}

fn parse_action(value: &str) -> Result<AuditAction, ApiError> {
    if let Some(action) = AuditAction::ALL.into_iter().find(|action| action.name() == value) {
        return Ok(action);
    }
    let allowed = yaml::list_names(AuditAction::ALL.iter().map(|action| action.name()));
    Err(ApiError::invalid_field("action", format!("must be one of {allowed}")))
}

fn parse_time(name: &str, value: &str) -> Result<DateTime<Utc>, ApiError> {
    // A `+` that the client did not percent-encode arrives as a space.
    let time = DateTime::parse_from_rfc3339(&value.replace(' ', "+")).ok();
    let time = time.map(|time| time.to_utc()).filter(|time| (1..=9999).contains(&time.year()));
    time.ok_or_else(|| {
        let reason = "must be a time in RFC 3339 with offset, such as 2026-02-28T12:00:00Z";
        ApiError::invalid_field(name, reason)
    })
}
