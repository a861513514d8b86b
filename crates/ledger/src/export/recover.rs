//! Where to go on: what the broker really holds, held against the ledger.

use std::sync::Arc;

use store::{Generation, Lease, mutant};

use super::compare::{Ledgered, compare};
use super::judge::{Standing, judge};
use super::progress::{Progress, record};
use super::{Engine, Error, Log, Mark, Result};
use crate::sharding::Shard;
use crate::types::Types;

/// The mark after which to go on with `log`, which has been opened after the lease was taken. It is recorded, so whoever
/// has lost the lease, or whose `generation` of the ledger's connection is over, does not get that far.
pub(super) async fn recover(
    shard: &Shard,
    types: &Types,
    engine: &dyn Engine,
    log: &mut dyn Log,
    lease: &Arc<Lease>,
    generation: &Generation,
) -> Result<Mark> {
    let last = log.last().map(|entry| entry.mark);
    let progress = Progress::load(&shard.pool).await?;
    let after = match judge(&progress, last) {
        Standing::Alarm(alarm) => return Err(Error::Alarm(alarm)),
        Standing::Recorded(mark) => mark,
        Standing::Compare(from, to) => {
            let ledger = Ledgered::new(shard, types.now());
            if !mutant("export_not_compared") {
                compare(engine, ledger, (from, to), progress.exported_seq).await?;
            }
            to
        }
    };
    record(&shard.pool, lease, after, generation).await?;
    Ok(after)
}
