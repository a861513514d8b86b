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
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map_or(default_width, |(width, _)| usize::from(width.0).max(MIN_WIDTH))
}
