//! Output to standard output and standard error, with control characters escaped. The programs
//! write there only through this module (`clippy.toml` forbids other ways); logs use
//! `serving::logs`.
#![allow(clippy::disallowed_methods)]

use std::fmt::Display;
use std::io::{BufWriter, Result, Write as _, stderr, stdout};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{escape_control_chars, escape_json_control_chars};

/// Timeout of a write to standard error.
const STDERR_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints one escaped line. Callers usually ignore the error of a closed pipe (such as `| head`).
pub fn print_line(text: impl Display) -> Result<()> {
    writeln!(stdout(), "{}", escape_control_chars(&text.to_string()))
}

/// Prints a text of several lines, such as a table. External text in it must be escaped already:
/// here its line breaks could not be told from real ones.
pub fn print_lines(text: impl Display) -> Result<()> {
    let text = text.to_string();
    let mut out = BufWriter::new(stdout().lock());
    for line in text.lines() {
        writeln!(out, "{}", escape_control_chars(line))?;
    }
    out.flush()
}

/// Prints a JSON document for programs, with control characters escaped.
pub fn print_json(json: impl Display) -> Result<()> {
    print_json_lines([json])
}

/// Prints several JSON documents, one after another.
pub fn print_json_lines(documents: impl IntoIterator<Item = impl Display>) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for json in documents {
        writeln!(out, "{}", escape_json_control_chars(&json.to_string()))?;
    }
    out.flush()
}

/// Prints a warning, remark or error as one line on standard error. Waits at most `STDERR_TIMEOUT`
/// for a reader that does not read.
pub fn print_remark(text: impl Display) {
    let line = format!("{}\n", escape_control_chars(&text.to_string()));
    let (done_sender, done_receiver) = mpsc::channel();
    let writer_thread = thread::Builder::new().spawn(move || {
        let _ = stderr().write_all(line.as_bytes());
        let _ = done_sender.send(());
    });
    if writer_thread.is_ok() {
        let _ = done_receiver.recv_timeout(STDERR_TIMEOUT);
    }
}
