//! State shared by the rows of one run: programs, effort, data folder, and figures
//! used by several rows.

use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::Effort;
use crate::figures::Figure;
use crate::platform::Programs;
use crate::progress::Progress;

/// One run of the suite.
pub struct Session {
    /// Paths of the programs under test.
    pub programs: Programs,
    /// Measurement effort per figure.
    pub effort: Effort,
    /// Progress display.
    pub progress: Progress,
    /// Parent of the data folders.
    root: PathBuf,
    /// Orders per second of O1, the reference of other rows.
    pub single_orders: OnceCell<Figure>,
    /// Rate of the exchange alone, with 1000 orders per request and 4 requests in flight.
    pub exchange: OnceCell<Figure>,
    /// Events of L1 per second of CPU time.
    pub l1_per_cpu: OnceCell<Figure>,
}

impl Session {
    /// A run whose data folders are created below `root`.
    pub fn new(programs: Programs, effort: Effort, progress: Progress, root: PathBuf) -> Self {
        Self {
            programs,
            effort,
            progress,
            root,
            single_orders: OnceCell::new(),
            exchange: OnceCell::new(),
            l1_per_cpu: OnceCell::new(),
        }
    }

    /// A new folder, removed on drop.
    pub fn folder(&self, what: &str) -> anyhow::Result<TempDir> {
        let folder =
            tempfile::Builder::new().prefix(&format!("bench-{what}-")).tempdir_in(&self.root);
        folder.with_context(|| format!("a folder for data in {}", self.root.display()))
    }

    /// Threads of a load: a quarter of the cores, leaving the rest to the platform.
    pub fn load_threads(&self) -> usize {
        (crate::cores() / 4).max(1)
    }
}
