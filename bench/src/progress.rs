//! What people see while it runs: a bar on a terminal, a line for each row elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of a run, on standard error.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    begun: Instant,
}

impl Progress {
    /// A bar if somebody looks.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template(
            "{spinner} [{elapsed}] {bar:20} {pos}/{len} {prefix}: {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, terminal, begun: Instant::now() }
    }

    /// So many rows will be run.
    pub fn begin(&self, rows: usize) {
        self.bar.set_length(rows as u64);
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// A row begins.
    pub fn row(&self, id: &str, what: &str) {
        self.bar.set_prefix(id.to_owned());
        self.bar.set_message(what.to_owned());
        if !self.terminal {
            eprintln!("[{:>4.0} s] {id}: {what}", self.begun.elapsed().as_secs_f64());
        }
    }

    /// What the row is doing.
    pub fn note(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if !self.terminal {
            eprintln!("[{:>4.0} s]     {text}", self.begun.elapsed().as_secs_f64());
        }
    }

    /// A row has ended.
    pub fn done(&self, text: &str) {
        self.bar.inc(1);
        match self.terminal {
            true => self.bar.println(text),
            false => eprintln!("[{:>4.0} s] {text}", self.begun.elapsed().as_secs_f64()),
        }
    }

    /// All rows have ended.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
