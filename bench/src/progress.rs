//! Progress display: a bar on a terminal, otherwise a line per row.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of a run, on stderr.
pub struct Progress {
    bar: ProgressBar,
    terminal: bool,
    begun: Instant,
}

impl Progress {
    /// A visible bar if stderr is a terminal.
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template(
            "{spinner} [{elapsed}] {bar:20} {pos}/{len} {prefix}: {wide_msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, terminal, begun: Instant::now() }
    }

    /// Sets the number of rows.
    pub fn begin(&self, rows: usize) {
        self.bar.set_length(rows as u64);
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Shows the start of a row.
    pub fn row(&self, id: &str, what: &str) {
        self.bar.set_prefix(id.to_owned());
        self.bar.set_message(what.to_owned());
        if !self.terminal {
            eprintln!("[{:>4.0} s] {id}: {what}", self.begun.elapsed().as_secs_f64());
        }
    }

    /// Shows the current step of a row.
    pub fn note(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if !self.terminal {
            eprintln!("[{:>4.0} s]     {text}", self.begun.elapsed().as_secs_f64());
        }
    }

    /// Shows the end of a row.
    pub fn done(&self, text: &str) {
        self.bar.inc(1);
        match self.terminal {
            true => self.bar.println(text),
            false => eprintln!("[{:>4.0} s] {text}", self.begun.elapsed().as_secs_f64()),
        }
    }

    /// Removes the bar after the last row.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
