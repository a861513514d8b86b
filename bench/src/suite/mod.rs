//! The suite: definition and execution of the rows.

mod effort;
mod outcome;
mod rows;
mod run;
mod session;

pub use effort::Effort;
pub use outcome::Outcome;
pub use rows::{ROWS, Row, When, select};
pub use run::run;
pub use session::Session;
