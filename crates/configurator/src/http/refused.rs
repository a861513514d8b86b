//! Configurator errors as API errors.

use serde_json::{Map, Value as Json, json};
use serving::error::{ApiError, ErrorCode, control_database_error};

use crate::ConfiguratorError;
use crate::run::{BlockStatus, RunView};
use crate::template::BlockTemplateFault;

fn template_error(faults: &[BlockTemplateFault]) -> ApiError {
    let first = faults.first().cloned().unwrap_or(BlockTemplateFault {
        block: String::new(),
        line: 1,
        reason: String::new(),
    });
    let all: Vec<Json> = faults
        .iter()
        .map(|fault| json!({"block": fault.block, "line": fault.line, "reason": fault.reason}))
        .collect();
    ApiError::new(ErrorCode::ValidationError, format!("template: {first}"))
        .with_arg("field", "template")
        .with_arg("block", first.block)
        .with_arg("line", first.line)
        .with_arg("reason", first.reason)
        .with_arg("problems", all)
}

/// The API error for a [`ConfiguratorError`].
pub fn to_api_error(refused: ConfiguratorError) -> ApiError {
    match refused {
        ConfiguratorError::Template(faults) => template_error(&faults),
        ConfiguratorError::Field(field, reason) => ApiError::invalid_field(field, reason),
        ConfiguratorError::NoTemplate(name) => {
            let message = format!("there is no template {name}: put it, or give it with the run");
            ApiError::new(ErrorCode::NotFound, message)
                .with_arg("field", "template_name")
                .with_arg("template_name", name)
        }
        ConfiguratorError::NoRun => {
            ApiError::new(ErrorCode::NotFound, "there is no such run; ids are whole numbers")
        }
        ConfiguratorError::Running(run_id) => {
            let message = format!(
                "run {run_id} of this template and environment goes on; one runs at a time"
            );
            ApiError::new(ErrorCode::Conflict, message).with_arg("run_id", run_id.get())
        }
        ConfiguratorError::Status(status) => {
            ApiError::new(ErrorCode::Conflict, format!("the run is {status}: that is not possible"))
                .with_arg("status", status)
        }
        ConfiguratorError::Superseded(run_id) => {
            let message = format!(
                "run {run_id} has gone on from this one: only the latest run can be resumed"
            );
            ApiError::new(ErrorCode::Conflict, message).with_arg("run_id", run_id.get())
        }
        ConfiguratorError::NoEnvironment(env) => ApiError::invalid_field(
            "env",
            format!("there are no queues for {env} here: --queues names those there are"),
        ),
        ConfiguratorError::Compute(error) => error.into(),
        ConfiguratorError::Store(error) => control_database_error(error),
    }
}

/// The response to a caller that waited for a run which did not succeed: the error and the blocks.
pub fn failed_run_json(run: &RunView) -> Json {
    let failed = run.blocks.iter().find(|block| block.status == BlockStatus::Failed);
    let (code, message, mut args) = match failed {
        Some(block) => {
            let code = block.error.as_ref().map_or("INTERNAL_ERROR", |error| error.code.as_str());
            let args = block.error.as_ref().map(|error| error.args.clone()).unwrap_or_default();
            let args = json!({"block": block.name, "code": code, "args": args});
            (code, format!("block {} failed: {code}", block.name), args)
        }
        None => ("CONFLICT", format!("the run is {}", run.status.name()), json!({})),
    };
    args["run_id"] = run.run_id.get().into();
    let mut blocks = Map::new();
    for block in &run.blocks {
        let mut shown = json!({"status": block.status.name()});
        if let Some(error) = &block.error {
            shown["error"] = json!(error);
        }
        blocks.insert(block.name.clone(), shown);
    }
    json!({"error": {"code": code, "message": message, "args": args}, "blocks": blocks, "run_id": run.run_id})
}
