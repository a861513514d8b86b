//! Duties of each ledger shard: one process at a time holds each, by lease; others stand by.

use std::collections::HashMap;
use std::sync::Arc;

use ledger::Ledger;
use ledger::aggregates::{self, Aggregator};
use ledger::export::{self, ExportEngine, Exporter};
use ledger::sequence::Sequencer;
use ledger::sharding::Shard;
use store::{DutyWork, LeaseOptions, open_lease_pool, open_single_connection_pool, run_duties};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::settings::ProcessRole;

/// Starts the duties of these roles; after `stop` they end and release their leases.
pub(super) fn start_shard_duties(
    ledger: &Arc<Ledger>,
    roles: &[ProcessRole],
    export_to: Option<Arc<dyn ExportEngine>>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut duties = JoinSet::new();
    for (shard_index, shard) in ledger.shards.all().iter().enumerate() {
        let mut shard_duties: HashMap<&'static str, DutyWork> = HashMap::new();
        let leases = open_lease_pool(&shard.pool);
        let pool = open_single_connection_pool(&shard.pool);
        if roles.contains(&ProcessRole::Sequencer) {
            let wake = ledger.sequence_notifiers[shard_index].clone();
            let sequencer =
                Sequencer { shard: shard.name.clone(), pool: pool.clone(), notifier: wake };
            shard_duties
                .insert("sequencer", Arc::new(move |lease| Box::pin(sequencer.clone().run(lease))));
        }
        if roles.contains(&ProcessRole::Aggregator) {
            let (types, wake) =
                (ledger.types.clone(), ledger.sequence_notifiers[shard_index].clone());
            let aggregator =
                Aggregator { shard: shard.name.clone(), pool: pool.clone(), types, notifier: wake };
            shard_duties.insert(
                aggregates::AGGREGATOR_DUTY,
                Arc::new(move |lease| Box::pin(aggregator.clone().run(lease))),
            );
        }
        if let Some(engine) = export_to.clone() {
            let (types, wake) =
                (ledger.types.clone(), ledger.sequence_notifiers[shard_index].clone());
            let shard = Shard { pool, ..shard.clone() };
            shard_duties
                .insert("exporter", export::exporter_duty(Exporter { shard, types, engine, wake }));
        }
        duties.spawn(run_duties(leases, LeaseOptions::default(), shard_duties, stop.clone()));
    }
    duties
}
