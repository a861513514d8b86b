//! `POST /` of the test proxy: runs a template and answers with its export.

use std::io::Write as _;

use audit::AuditActor;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use configurator::RunId;
use configurator::http::{RunRequestBody, failed_run_json, to_api_error};
use configurator::run::{self, RunStatus, RunView};
use configurator::transcript::TranscriptEntry;
use serving::body::{self, JsonBody};
use serving::error::{ApiError, ErrorCode};
use serving::numbers::check_exact_numbers;
use tokio_util::sync::CancellationToken;

use super::TestProxyState;

pub(super) async fn run_posted_template(
    State(shared): State<TestProxyState>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = body::parse_object::<RunRequestBody>(&body)?;
    check_exact_numbers(&body)?;
    let run_request = request.into_run_request()?;
    if run_request.template.is_none() {
        return Err(ApiError::invalid_field("template", "is needed: the template's text"));
    }
    // Cancelled when this call is dropped, as when the client disconnects.
    let caller_gone = CancellationToken::new();
    let cancel_guard = caller_gone.clone().drop_guard();
    let runs = shared.runs.clone();
    let done = runs
        .spawn(store::panics::contain_panic(async move {
            run_to_end(shared, run_request, &caller_gone).await
        }))
        .await;
    cancel_guard.disarm();
    done.unwrap_or_else(|_| {
        Err(ApiError::new(ErrorCode::LogicError, "the run was lost; see the log"))
    })
}

/// Why a run is cancelled before its end.
enum RunAbandonReason {
    TooLong,
    CallerGone,
    Stopping,
}

async fn run_to_end(
    shared: TestProxyState,
    run_request: configurator::RunRequest,
    caller_gone: &CancellationToken,
) -> Result<Response, ApiError> {
    let configurator = &shared.configurator;
    let run_id = configurator.begin_run(run_request).await.map_err(to_api_error)?;
    let (run, reason) = tokio::select! {
        run = configurator.wait_for_run(run_id, shared.timeout) => (run, RunAbandonReason::TooLong),
        () = caller_gone.cancelled() => (configurator.get_run(run_id).await, RunAbandonReason::CallerGone),
        () = shared.stop.cancelled() => (configurator.get_run(run_id).await, RunAbandonReason::Stopping),
    };
    // An unknown status counts as running.
    let is_running = run.as_ref().map_or(true, |run| run.status == RunStatus::Running);
    if is_running {
        // An active run would block the next run of the same template.
        let cancelled = configurator.cancel_run(run_id, &AuditActor::of_service("testproxy")).await;
        if let Err(error) = cancelled.map_err(to_api_error) {
            tracing::warn!(run_id = run_id.get(), %error, "a run that nobody waits for could not be cancelled");
        }
    }
    let run = run.map_err(to_api_error)?;
    if is_running {
        let seconds = shared.timeout.as_secs_f64();
        let (code, message) = match reason {
            RunAbandonReason::TooLong => (
                ErrorCode::Timeout,
                format!("run {run_id} has not ended within {seconds} s and was cancelled"),
            ),
            RunAbandonReason::CallerGone => {
                tracing::info!(
                    run_id = run_id.get(),
                    "a run was cancelled, as its caller has gone"
                );
                (
                    ErrorCode::Unavailable,
                    format!("run {run_id} was cancelled, as its caller has gone"),
                )
            }
            RunAbandonReason::Stopping => (
                ErrorCode::Unavailable,
                format!("run {run_id} was cancelled: the test proxy stops"),
            ),
        };
        let blocks = failed_run_json(&run)["blocks"].clone();
        return Err(ApiError::new(code, message)
            .with_arg("run_id", run_id.get())
            .with_member("blocks", blocks));
    }
    record_run_transcript(&shared, run_id).await;
    Ok(run_response(&run))
}

fn run_response(run: &RunView) -> Response {
    match run.status {
        RunStatus::Succeeded => Json(run.to_export_json()).into_response(),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, Json(failed_run_json(run))).into_response(),
    }
}

/// Appends a run's messages and answers to the transcript; the lock keeps the lines of one run
/// together.
async fn record_run_transcript(shared: &TestProxyState, run_id: RunId) {
    let Some(file) = &shared.record else { return };
    let file = file.lock().await;
    let exchanges = match run::load_run_transcript(&shared.configurator.pool, run_id).await {
        Ok(exchanges) => exchanges,
        Err(error) => {
            return tracing::error!(run_id = run_id.get(), %error, code = "UNAVAILABLE", "a run was not recorded");
        }
    };
    let lines: Vec<String> = exchanges
        .iter()
        .filter_map(|exchange| {
            serde_json::to_string(&TranscriptEntry::from_exchange(exchange)?).ok()
        })
        .map(|line| line + "\n")
        .collect();
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(&*file);
    if let Err(error) = opened.and_then(|mut file| file.write_all(lines.concat().as_bytes())) {
        tracing::error!(run_id = run_id.get(), %error, code = "INTERNAL_ERROR", "a run was not recorded");
    }
}
