//! `POST /api/v1/reconcile`: brings this service's targets to a bundle that comes with the request.
//!
//! What has to be run was decided by the caller, who has the revisions to compare with. The answer is a report, also when
//! something in it failed.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use reconcile::{
    Bundle, Decided, Owner, POOL_SIZE, Pace, Place, Report, Request, RequestError, SavedPlan, SentFile,
};
use serde::{Deserialize, Serialize};
use serving::body::{self, JsonBody};
use serving::error::{ApiError, Code};

use super::{Targets, runtime};

/// What is to be run, over which bundle.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The bundle.
    pub files: Vec<SentFile>,
    /// Which integrations.
    #[serde(default)]
    pub integrations: Vec<String>,
    /// Arguments of the one integration.
    #[serde(default)]
    pub arguments: Vec<(String, String)>,
    /// Only plan.
    #[serde(default)]
    pub dry_run: bool,
    /// Take over what belongs to others.
    #[serde(default)]
    pub take_over: bool,
    /// What was decided; without it, everything is run.
    #[serde(default)]
    pub decided: Option<Decided>,
    /// In place of all that: a plan that was saved.
    #[serde(default)]
    pub plan: Option<SavedPlan>,
    /// Shards at the same time.
    #[serde(default)]
    pub pool_size: Option<u16>,
}

/// The description of the route.
pub const DESCRIPTION: &str = include_str!("../../openapi/reconcile.yaml");

/// The route.
pub fn routes(targets: Targets) -> Router {
    Router::new()
        .route("/api/v1/reconcile", post(reconcile))
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(Arc::new(targets))
}

async fn reconcile(
    State(targets): State<Arc<Targets>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Report>, ApiError> {
    let wanted: Wanted = body::parse(&body)?;
    // Whoever asked may go away: what was begun is ended.
    let running = tokio::spawn(async move { run(&targets, wanted).await });
    running.await.map_err(|_| ApiError::new(Code::InternalError, "the run failed; see the log"))?.map(Json)
}

async fn run(targets: &Targets, wanted: Wanted) -> Result<Report, ApiError> {
    let place = Place::Sent(wanted.files.into());
    let bundle = tokio::task::spawn_blocking(move || Bundle::read(place)).await;
    let bundle = bundle.map_err(|_| ApiError::new(Code::InternalError, "the bundle could not be read"))?;
    let bundle = bundle.map_err(|reason| ApiError::field("files", reason))?;
    let runtime = runtime(targets);
    let pool_size = wanted.pool_size.map_or(POOL_SIZE, |size| usize::from(size).clamp(1, 1000));
    let pace = Pace { pool_size, progress: None };
    if let Some(plan) = &wanted.plan {
        return runtime.apply(&bundle, plan, Owner::Bundle, &pace).await.map_err(refused);
    }
    let request = Request {
        integrations: wanted.integrations,
        arguments: wanted.arguments,
        dry_run: wanted.dry_run,
        take_over: wanted.take_over,
        owner: Owner::Bundle,
    };
    let report = match &wanted.decided {
        Some(decided) => runtime.carry_out(&bundle, &request, decided, &pace).await,
        None => runtime.run(&bundle, &request).await,
    };
    report.map_err(refused)
}

fn refused(error: RequestError) -> ApiError {
    match error {
        RequestError::Usage(line) => ApiError::new(Code::ValidationError, line),
        RequestError::Bundle(wrong) => {
            let first = wrong.first().map(ToString::to_string).unwrap_or_default();
            let message = format!("the bundle has {} problems, the first: {first}", wrong.len());
            ApiError::new(Code::ValidationError, message).arg("errors", serde_json::json!(wrong))
        }
        RequestError::Moved(_) => ApiError::new(Code::Conflict, error.to_string()),
    }
}
