//! What one process at a time does for each shard of the ledger; any number of processes may stand by.

use std::collections::HashMap;
use std::sync::Arc;

use ledger::Ledger;
use ledger::aggregates::{self, Aggregator};
use ledger::export::{self, Engine, Exporter};
use ledger::sequence::Sequencer;
use ledger::sharding::Shard;
use store::{LeaseTerms, Work, connection_of_its_own, do_duties, lease_connection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::settings::Role;

/// Begins the duties of these roles; they end, and give their leases back, after `stop`.
pub(super) fn start(
    ledger: &Arc<Ledger>,
    roles: &[Role],
    export_to: Option<Arc<dyn Engine>>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut duties = JoinSet::new();
    for (place, shard) in ledger.shards.all().iter().enumerate() {
        let mut of_shard: HashMap<&'static str, Work> = HashMap::new();
        let leases = lease_connection(&shard.pool);
        let pool = connection_of_its_own(&shard.pool);
        if roles.contains(&Role::Sequencer) {
            let wake = ledger.wakes[place].clone();
            let sequencer = Sequencer { shard: shard.name.clone(), pool: pool.clone(), wake };
            of_shard.insert("sequencer", Arc::new(move |lease| Box::pin(sequencer.clone().run(lease))));
        }
        if roles.contains(&Role::Aggregator) {
            let (types, wake) = (ledger.types.clone(), ledger.wakes[place].clone());
            let aggregator = Aggregator { shard: shard.name.clone(), pool: pool.clone(), types, wake };
            of_shard.insert(aggregates::DUTY, Arc::new(move |lease| Box::pin(aggregator.clone().run(lease))));
        }
        if let Some(engine) = export_to.clone() {
            let (types, wake) = (ledger.types.clone(), ledger.wakes[place].clone());
            let shard = Shard { pool, ..shard.clone() };
            of_shard.insert("exporter", export::duty(Exporter { shard, types, engine, wake }));
        }
        duties.spawn(do_duties(leases, LeaseTerms::default(), of_shard, stop.clone()));
    }
    duties
}
