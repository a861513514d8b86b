//! Output for people: text that cannot steer the terminal, and tables that fit it.

mod print;
mod printable;
mod table;

pub use print::{print_json, print_json_lines, print_line, print_lines, print_remark};
pub use printable::{escape_control_chars, escape_json_control_chars, shorten_text};
pub use table::{TableBorders, render_table};

/// For tables whose lines programs take apart: in a pipe or a file, no cell goes on in the line below.
pub const UNLIMITED_WIDTH: usize = u16::MAX as usize;

/// No table is made narrower than this; a terminal that is wraps it.
const MIN_WIDTH: usize = 40;

/// Columns there are on standard output; `default_width` if that is no terminal but a pipe or a file.
#[allow(clippy::disallowed_methods)]
pub fn terminal_width(default_width: usize) -> usize {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map_or(default_width, |(width, _)| usize::from(width.0).max(MIN_WIDTH))
}
