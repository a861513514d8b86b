//! Realignment of an exporter at start: compares the broker's unrecorded entries with the ledger.

use std::sync::Arc;

use store::{ConnectionGeneration, Lease, mutant};

use super::alignment::{ExportAlignment, check_alignment};
use super::compare::{ExportLedgerReader, compare_entries};
use super::progress::{ExportProgress, record_export};
use super::{ExportEngine, ExportError, ExportLog, ExportMark, Result};
use crate::sharding::Shard;
use crate::types::LedgerTypeRegistry;

/// The mark after which to continue with `log`, which must be opened
/// after the lease was acquired. Recording the mark fences exporters
/// that lost the lease or whose connection `generation` is over.
pub(super) async fn realign_export(
    shard: &Shard,
    types: &LedgerTypeRegistry,
    engine: &dyn ExportEngine,
    log: &mut dyn ExportLog,
    lease: &Arc<Lease>,
    generation: &ConnectionGeneration,
) -> Result<ExportMark> {
    let last = log.last_entry().map(|entry| entry.mark);
    let progress = ExportProgress::load(&shard.pool).await?;
    let after = match check_alignment(&progress, last) {
        ExportAlignment::Alarm(alarm) => return Err(ExportError::Alarm(alarm)),
        ExportAlignment::Recorded(mark) => mark,
        ExportAlignment::Compare(from, to) => {
            let ledger = ExportLedgerReader::new(shard, types.current());
            if !mutant("export_not_compared") {
                compare_entries(engine, ledger, (from, to), progress.exported_seq).await?;
            }
            to
        }
    };
    record_export(&shard.pool, lease, after, generation).await?;
    Ok(after)
}
