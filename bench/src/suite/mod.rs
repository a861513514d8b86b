//! The suite: which rows there are, and how a run of some of them goes.

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
