//! `POST /`: a template, run to its end.

use std::io::Write as _;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use configurator::http::{Request, failed_run, refused};
use configurator::run::{self, RunStatus, RunView};
use configurator::transcript::Entry;
use serving::body::{self, JsonBody};
use serving::error::{ApiError, Code};
use serving::numbers::check_exact;
use tokio_util::sync::CancellationToken;

use super::Shared;

pub(super) async fn answer(
    State(shared): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = body::parse::<Request>(&body)?;
    check_exact(&body)?;
    let given = request.given()?;
    if given.template.is_none() {
        return Err(ApiError::field("template", "is needed: the template's text"));
    }
    // Cancelled when this call is dropped, as it is when its caller has gone.
    let gone = CancellationToken::new();
    let caller = gone.clone().drop_guard();
    let runs = shared.runs.clone();
    let done = runs.spawn(store::panics::told(async move { to_its_end(shared, given, &gone).await })).await;
    caller.disarm();
    done.unwrap_or_else(|_| Err(ApiError::new(Code::LogicError, "the run was lost; see the log")))
}

/// Why nobody waits for a run any more.
enum Left {
    TooLong,
    CallerGone,
    Stopping,
}

async fn to_its_end(
    shared: Shared,
    given: configurator::Given,
    gone: &CancellationToken,
) -> Result<Response, ApiError> {
    let configurator = &shared.configurator;
    let run_id = configurator.begin(given).await.map_err(refused)?;
    let (run, left) = tokio::select! {
        run = configurator.wait(run_id, shared.timeout) => (run, Left::TooLong),
        () = gone.cancelled() => (configurator.show(run_id).await, Left::CallerGone),
        () = shared.stop.cancelled() => (configurator.show(run_id).await, Left::Stopping),
    };
    // Also where it is not known how it is.
    let is_running = run.as_ref().map_or(true, |run| run.status == RunStatus::Running);
    if is_running {
        // Whoever asks next must not find it in the way.
        let cancelled = configurator.cancel(run_id).await;
        if let Err(error) = cancelled.map_err(refused) {
            tracing::warn!(run_id, %error, "a run that nobody waits for could not be cancelled");
        }
    }
    let run = run.map_err(refused)?;
    if is_running {
        let seconds = shared.timeout.as_secs_f64();
        let (code, message) = match left {
            Left::TooLong => {
                (Code::Timeout, format!("run {run_id} has not ended within {seconds} s and was cancelled"))
            }
            Left::CallerGone => {
                tracing::info!(run_id, "a run was cancelled, as its caller has gone");
                (Code::Unavailable, format!("run {run_id} was cancelled, as its caller has gone"))
            }
            Left::Stopping => {
                (Code::Unavailable, format!("run {run_id} was cancelled: the test proxy stops"))
            }
        };
        let blocks = failed_run(&run)["blocks"].clone();
        return Err(ApiError::new(code, message).arg("run_id", run_id).with("blocks", blocks));
    }
    record(&shared, run_id).await;
    Ok(shown(&run))
}

fn shown(run: &RunView) -> Response {
    match run.status {
        RunStatus::Succeeded => Json(run.export()).into_response(),
        _ => (StatusCode::UNPROCESSABLE_ENTITY, Json(failed_run(run))).into_response(),
    }
}

/// Adds a run's messages and answers to the transcript; one run's lines stay together.
async fn record(shared: &Shared, run_id: i64) {
    let Some(file) = &shared.record else { return };
    let file = file.lock().await;
    let exchanges = match run::transcript(&shared.configurator.pool, run_id).await {
        Ok(exchanges) => exchanges,
        Err(error) => return tracing::error!(run_id, %error, code = "UNAVAILABLE", "a run was not recorded"),
    };
    let lines: Vec<String> = exchanges
        .iter()
        .filter_map(|exchange| serde_json::to_string(&Entry::of(exchange)?).ok())
        .map(|line| line + "\n")
        .collect();
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(&*file);
    if let Err(error) = opened.and_then(|mut file| file.write_all(lines.concat().as_bytes())) {
        tracing::error!(run_id, %error, code = "INTERNAL_ERROR", "a run was not recorded");
    }
}
