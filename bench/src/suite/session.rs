//! What the rows of one run share: the programs, the effort, a place for data, and figures that several rows need.

use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::Effort;
use crate::figures::Figure;
use crate::platform::Programs;
use crate::progress::Progress;

/// One run.
pub struct Session {
    /// What is measured.
    pub programs: Programs,
    /// How thoroughly.
    pub effort: Effort,
    /// What people see meanwhile.
    pub progress: Progress,
    /// Below which folder data lies.
    root: PathBuf,
    /// Orders per second of O1: other rows are measured against it.
    pub single_orders: OnceCell<Figure>,
    /// The exchange alone, at 1000 orders a request x 4.
    pub exchange: OnceCell<Figure>,
    /// Events of L1 per second of processor time.
    pub l1_per_cpu: OnceCell<Figure>,
}

impl Session {
    /// A run that keeps its data below `root` until it ends.
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

    /// A fresh folder, removed when it is dropped.
    pub fn folder(&self, what: &str) -> anyhow::Result<TempDir> {
        let folder =
            tempfile::Builder::new().prefix(&format!("bench-{what}-")).tempdir_in(&self.root);
        folder.with_context(|| format!("a folder for data in {}", self.root.display()))
    }

    /// Threads for a load: a quarter of the cores, for the platform needs the others.
    pub fn load_threads(&self) -> usize {
        (crate::cores() / 4).max(1)
    }
}
