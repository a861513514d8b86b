//! State shared by the rows of one run: programs, effort, data folder, and figures
//! used by several rows.

use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::MeasurementEffort;
use crate::figures::Figure;
use crate::platform::ProgramPaths;
use crate::progress::ProgressDisplay;

/// One run of the suite.
pub struct BenchSession {
    /// Paths of the programs under test.
    pub programs: ProgramPaths,
    /// Measurement effort per figure.
    pub effort: MeasurementEffort,
    /// Progress display.
    pub progress: ProgressDisplay,
    /// Parent of the data folders.
    data_root: PathBuf,
    /// Orders per second of O1, the reference of other rows.
    pub o1_rate: OnceCell<Figure>,
    /// Rate of the exchange alone, with 1000 orders per request and 4 requests in flight.
    pub exchange_rate: OnceCell<Figure>,
    /// Events of L1 per second of CPU time.
    pub l1_rate_per_cpu: OnceCell<Figure>,
}

impl BenchSession {
    /// A run whose data folders are created below `data_root`.
    pub fn new(
        programs: ProgramPaths,
        effort: MeasurementEffort,
        progress: ProgressDisplay,
        data_root: PathBuf,
    ) -> Self {
        Self {
            programs,
            effort,
            progress,
            data_root,
            o1_rate: OnceCell::new(),
            exchange_rate: OnceCell::new(),
            l1_rate_per_cpu: OnceCell::new(),
        }
    }

    /// A new folder, removed on drop.
    pub fn create_folder(&self, what: &str) -> anyhow::Result<TempDir> {
        let folder =
            tempfile::Builder::new().prefix(&format!("bench-{what}-")).tempdir_in(&self.data_root);
        folder.with_context(|| format!("a folder for data in {}", self.data_root.display()))
    }

    /// Threads of a load: a quarter of the cores, leaving the rest to the platform.
    pub fn load_thread_count(&self) -> usize {
        (crate::available_cores() / 4).max(1)
    }
}
