//! Progress display: a bar on a terminal, otherwise a line per row.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of a run, on stderr.
pub struct ProgressDisplay {
    bar: ProgressBar,
    is_terminal: bool,
    started_at: Instant,
}

impl ProgressDisplay {
    /// A visible bar if stderr is a terminal.
    pub fn new() -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template(
            "{spinner} [{elapsed}] {bar:20} {pos}/{len} {prefix}: {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, is_terminal, started_at: Instant::now() }
    }

    /// Sets the number of rows.
    pub fn set_row_count(&self, rows: usize) {
        self.bar.set_length(rows as u64);
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Shows the start of a row.
    pub fn start_row(&self, id: &str, what: &str) {
        self.bar.set_prefix(id.to_owned());
        self.bar.set_message(what.to_owned());
        if !self.is_terminal {
            eprintln!("[{:>4.0} s] {id}: {what}", self.started_at.elapsed().as_secs_f64());
        }
    }

    /// Shows the current step of a row.
    pub fn show_step(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if !self.is_terminal {
            eprintln!("[{:>4.0} s]     {text}", self.started_at.elapsed().as_secs_f64());
        }
    }

    /// Shows the end of a row.
    pub fn finish_row(&self, text: &str) {
        self.bar.inc(1);
        match self.is_terminal {
            true => self.bar.println(text),
            false => eprintln!("[{:>4.0} s] {text}", self.started_at.elapsed().as_secs_f64()),
        }
    }

    /// Removes the bar after the last row.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
