//! Checks of a shard that a request names.

use yaml::{list_names, suggest_name};

use super::erased::ErasedReconciler;
use super::narrowing::desired_state_of;
use crate::bundle::Bundle;
use crate::decided_runs::DecidedRuns;
use crate::desired::{self, DIFF_TIMEOUT};
use crate::reconciler::DesiredShardConfig;
use crate::request::{ReconcileRequest, ReconcileRequestError};

/// The reason recorded for a shard run by request.
pub(super) const SHARD_FLAG: &str = "--shard";

/// `--shard` requires exactly one reconciler, with shards.
pub(super) fn check_one_sharded(
    selected: &[&dyn ErasedReconciler],
) -> Result<(), ReconcileRequestError> {
    match selected {
        [one] if one.shard_config().is_some() => Ok(()),
        [one] => Err(ReconcileRequestError::InvalidUsage(format!(
            "--shard: {} has no shards",
            one.name()
        ))),
        _ => Err(ReconcileRequestError::InvalidUsage(
            "--shard needs exactly one integration".to_owned(),
        )),
    }
}

/// Rejects a requested shard that is neither in the desired nor in the stored state,
/// because the run would silently do nothing. If the shards cannot be listed, the run
/// itself reports the problem.
pub(super) async fn check_requested_shard(
    reconciler: &dyn ErasedReconciler,
    bundle: &Bundle,
    request: &ReconcileRequest,
    decided: &DecidedRuns,
) -> Result<(), ReconcileRequestError> {
    let Some(config) = reconciler.shard_config() else { return Ok(()) };
    let runs =
        decided.works.iter().flat_map(|work| &work.runs).filter(|run| run.why == [SHARD_FLAG]);
    let arguments = request.arguments.iter().filter(|(name, _)| name == config.parameter);
    let requested: Vec<&String> =
        runs.map(|run| &run.shard).chain(arguments.map(|(_, shard)| shard)).collect();
    if requested.is_empty() {
        return Ok(());
    }
    let (Some(mut known), Ok(stored)) = (
        desired_shards(reconciler, bundle, request, &config).await,
        reconciler.stored_shards().await,
    ) else {
        return Ok(());
    };
    known.extend(stored);
    known.sort();
    known.dedup();
    match requested.into_iter().find(|asked| !known.contains(asked)) {
        None => Ok(()),
        Some(shard) => {
            let near = suggest_name(shard, known.iter().map(String::as_str));
            let all = list_names(known.iter().map(String::as_str));
            let name = reconciler.name();
            Err(ReconcileRequestError::InvalidUsage(format!(
                "{name} has no shard `{shard}`{near} (known: {all})"
            )))
        }
    }
}

/// Shards of the bundle's desired state; `None` if they cannot be found.
async fn desired_shards(
    reconciler: &dyn ErasedReconciler,
    bundle: &Bundle,
    request: &ReconcileRequest,
    config: &DesiredShardConfig,
) -> Option<Vec<String>> {
    let state = desired_state_of(reconciler, bundle, request).ok()??;
    let selectors = config.selectors.iter().map(|selector| (*selector).to_owned()).collect();
    let found = desired::find_shards(state, selectors, DIFF_TIMEOUT).await.ok()?;
    Some(found.into_iter().collect())
}
