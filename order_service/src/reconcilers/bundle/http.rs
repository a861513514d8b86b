//! `POST /api/v1/reconcile`: reconciles this service's targets with a bundle sent in the request.
//!
//! The caller has the git revisions and therefore decides which reconcilers run. The answer is a
//! report, even if part of the run failed.

use std::sync::{Arc, LazyLock};

use access::Scope;
use audit::AuditActor;
use axum::Json;
use axum::extract::State;
use reconcile::{
    Bundle, BundleSource, DEFAULT_POOL_SIZE, DecidedRuns, ObjectOwner, ReconcileOptions,
    ReconcileReport, ReconcileRequest, ReconcileRequestError, SavedPlan, SentFile,
};
use serde::{Deserialize, Serialize};
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::compute::ComputePool;
use serving::error::{ApiError, ErrorCode};
use serving::scoped_router::ScopedRouter;
use tokio::runtime::Handle;

use super::{ReconcileTargets, reconcile_runtime};

/// Maximum number of bundle problems in an error answer.
const MAX_REPORTED_PROBLEMS: usize = 1000;

/// Small pool: bundles are large, and all runs share the same targets.
static RECONCILE_POOL: LazyLock<ComputePool> =
    LazyLock::new(|| ComputePool::new("reconcile", 2, 6));

/// Request body: a bundle and the runs to execute.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequestBody {
    /// Files of the bundle.
    pub files: Vec<SentFile>,
    /// Names of the reconcilers to run; empty means all.
    #[serde(default)]
    pub integrations: Vec<String>,
    /// Key and value arguments; only valid with one reconciler.
    #[serde(default)]
    pub arguments: Vec<(String, String)>,
    /// Plan only; write nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Take over objects of other owners.
    #[serde(default)]
    pub take_over: bool,
    /// Allow deleting every object of a kind that the bundle does not have.
    #[serde(default)]
    pub allow_delete_all: bool,
    /// Decided runs; without them, everything is run.
    #[serde(default)]
    pub decided: Option<DecidedRuns>,
    /// Saved plan to apply, instead of the fields above.
    #[serde(default)]
    pub plan: Option<SavedPlan>,
    /// Maximum number of shards that run concurrently.
    #[serde(default)]
    pub pool_size: Option<u16>,
}

/// OpenAPI description of the route.
pub const OPENAPI_DOCUMENT: &str = include_str!("../../../openapi/reconcile.yaml");

/// Router with the reconcile route.
pub fn build_reconcile_routes(targets: ReconcileTargets) -> ScopedRouter {
    ScopedRouter::new()
        .post("/api/v1/reconcile", Scope::ConfigsWrite, handle_reconcile)
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(Arc::new(targets))
}

async fn handle_reconcile(
    State(targets): State<Arc<ReconcileTargets>>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<ReconcileReport>, ApiError> {
    // Parsing, checking and diffing are CPU-bound, so the whole run has its own thread. A cancelled
    // caller does not cancel the run.
    let runtime = Handle::current();
    let actor = caller.to_audit_actor();
    RECONCILE_POOL
        .run(move || runtime.block_on(run_reconcile(&targets, &body, actor)))
        .await?
        .map(Json)
}

async fn run_reconcile(
    targets: &ReconcileTargets,
    body: &[u8],
    actor: AuditActor,
) -> Result<ReconcileReport, ApiError> {
    let parsed_body: ReconcileRequestBody = body::parse_object(body)?;
    let bundle = Bundle::read(BundleSource::Sent(parsed_body.files.into()));
    let bundle = bundle.map_err(|reason| ApiError::invalid_field("files", reason))?;
    let runtime = reconcile_runtime(targets);
    let pool_size =
        parsed_body.pool_size.map_or(DEFAULT_POOL_SIZE, |size| usize::from(size).clamp(1, 1000));
    let options = ReconcileOptions { pool_size, progress: None };
    if let Some(plan) = &parsed_body.plan {
        return runtime
            .apply(&bundle, plan, ObjectOwner::Bundle, actor, &options)
            .await
            .map_err(to_api_error);
    }
    let request = ReconcileRequest {
        reconcilers: parsed_body.integrations,
        arguments: parsed_body.arguments,
        dry_run: parsed_body.dry_run,
        take_over: parsed_body.take_over,
        allow_delete_all: parsed_body.allow_delete_all,
        owner: ObjectOwner::Bundle,
        actor,
    };
    let report = match &parsed_body.decided {
        Some(decided) => runtime.execute(&bundle, &request, decided, &options).await,
        None => runtime.run(&bundle, &request).await,
    };
    report.map_err(to_api_error)
}

fn to_api_error(error: ReconcileRequestError) -> ApiError {
    match error {
        ReconcileRequestError::InvalidUsage(line) => {
            ApiError::new(ErrorCode::ValidationError, line).with_arg("usage", true)
        }
        ReconcileRequestError::InvalidBundle(diagnostics) => {
            let first = diagnostics.first().map(ToString::to_string).unwrap_or_default();
            let message =
                format!("the bundle has {} problems, the first: {first}", diagnostics.len());
            let reported = &diagnostics[..diagnostics.len().min(MAX_REPORTED_PROBLEMS)];
            ApiError::new(ErrorCode::ValidationError, message)
                .with_arg("errors", serde_json::json!(reported))
        }
        ReconcileRequestError::StalePlan(_) => {
            ApiError::new(ErrorCode::Conflict, error.to_string())
        }
    }
}
