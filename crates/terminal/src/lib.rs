//! Output for people: escaped text, and tables that fit the terminal.

mod print;
mod printable;
mod table;

pub use print::{print_json, print_json_lines, print_line, print_lines, print_remark};
pub use printable::{escape_control_chars, escape_json_control_chars, shorten_text};
pub use table::{TableBorders, render_table};

/// Width for output that programs parse, in a pipe or file: no cell is wrapped.
pub const UNLIMITED_WIDTH: usize = u16::MAX as usize;

/// Minimum table width in columns; narrower terminals wrap the lines.
const MIN_WIDTH: usize = 40;

/// Width of standard output in columns; `default_width` if it is a pipe or file.
#[allow(clippy::disallowed_methods)]
pub fn terminal_width(default_width: usize) -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => usize::from(size.ws_col).max(MIN_WIDTH),
        _ => default_width,
    }
}
