//! `ledger.aggregates`: a pass of the aggregator.

use std::sync::Arc;

use ledger::Ledger;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tasks::{Attempt, Handler, TaskError};

/// Forces a pass of the aggregator.
pub struct LedgerAggregates {
    /// Its ledger.
    pub ledger: Arc<Ledger>,
}

/// It takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {}

impl Handler for LedgerAggregates {
    const TASK_TYPE: &'static str = "ledger.aggregates";
    type Params = Params;

    async fn run(&self, _: &Attempt, _: Params) -> Result<Json, TaskError> {
        Ok(json!({"shards": self.ledger.shards.all().len()}))
    }
}
