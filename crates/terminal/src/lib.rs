//! Output for people: text that cannot steer the terminal, and tables that fit it.

mod printable;
mod table;

pub use printable::{printable, shortened};
pub use table::{Borders, table};

/// Columns of what goes to no terminal: a pipe, a file.
const WIDTH_WITHOUT_TERMINAL: usize = 120;

/// No table is made narrower than this; a terminal that is wraps it.
const MIN_WIDTH: usize = 40;

/// Columns there are on standard output.
pub fn width() -> usize {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map_or(WIDTH_WITHOUT_TERMINAL, |(width, _)| usize::from(width.0).max(MIN_WIDTH))
}
