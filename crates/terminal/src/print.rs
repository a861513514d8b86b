//! The way to standard output and standard error: whatever is in a text, the terminal shows it and does not obey it. Nothing
//! else in the programs writes there (`clippy.toml` forbids it); logs have a way of their own, `serving::logs`.
#![allow(clippy::disallowed_methods)]

use std::fmt::Display;
use std::io::{BufWriter, Result, Write as _, stderr, stdout};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::{escape_control_chars, escape_json_control_chars};

/// For whoever reads standard error.
const STDERR_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints one line of text. The error is that of standard output; a closed pipe (such as `| head`) is rarely worth a word.
pub fn print_line(text: impl Display) -> Result<()> {
    writeln!(stdout(), "{}", escape_control_chars(&text.to_string()))
}

/// Prints a text that was made of lines, such as a table or a page. What others said in it has been made printable before:
/// here, a line break of theirs looks like one of ours.
pub fn print_lines(text: impl Display) -> Result<()> {
    let text = text.to_string();
    let mut out = BufWriter::new(stdout().lock());
    for line in text.lines() {
        writeln!(out, "{}", escape_control_chars(line))?;
    }
    out.flush()
}

/// Prints JSON, for programs; a terminal is safe from it nevertheless.
pub fn print_json(json: impl Display) -> Result<()> {
    print_json_lines([json])
}

/// Prints several documents of JSON, one after another.
pub fn print_json_lines(documents: impl IntoIterator<Item = impl Display>) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for json in documents {
        writeln!(out, "{}", escape_json_control_chars(&json.to_string()))?;
    }
    out.flush()
}

/// Prints a warning, a remark or an error, as one line for people, on standard error; nobody may be reading, or somebody who
/// does not read on: that is waited for a moment only.
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
