//! Every row of the table, with its target as rules.

use futures::future::LocalBoxFuture;

use super::{Outcome, Session};
use crate::figures::{Rule, at_least, at_most};
use crate::rows;

/// In which runs a row is, besides when it is asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// `bench quick`, and always.
    Daily,
    /// `bench run --all`.
    Usual,
    /// `bench run --long`.
    Long,
}

/// One row of the table.
pub struct Row {
    /// Its name.
    pub id: &'static str,
    /// The work.
    pub what: &'static str,
    /// What to reach, in words.
    pub target: &'static str,
    /// The same as rules.
    pub rules: &'static [Rule],
    /// When it runs.
    pub when: When,
    /// Measures it.
    pub run: for<'s> fn(&'s Session) -> LocalBoxFuture<'s, anyhow::Result<Outcome>>,
}

macro_rules! measured_by {
    ($function:path) => {
        |session| Box::pin($function(session))
    };
}

/// All rows, in the order in which they run.
pub const ROWS: &[Row] = &[Row {
    id: "O1",
    what: "durable orders with their two ledger events, one exchange call each, 1000 a request x 4",
    target: ">= 0.5 x the exchange alone, >= 25,000/s, p99 < 200 ms",
    rules: &[
        at_least("ratio to the exchange alone", 0.5),
        at_least("orders", 25_000.0),
        at_most("p99", 200.0),
    ],
    when: When::Daily,
    run: measured_by!(rows::orders::single_exchange),
}];

/// The rows with these names, in the order of the table; the first name that is none.
pub fn select(names: &[String]) -> Result<Vec<&'static Row>, String> {
    let known = |name: &String| ROWS.iter().any(|row| row.id.eq_ignore_ascii_case(name));
    match names.iter().find(|name| !known(name)) {
        Some(unknown) => Err(unknown.clone()),
        None => {
            let wanted = |row: &&Row| names.iter().any(|name| row.id.eq_ignore_ascii_case(name));
            Ok(ROWS.iter().filter(wanted).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_name_in_any_case_and_in_the_table_order() {
        assert_eq!(select(&["nope".to_owned()]).err(), Some("nope".to_owned()));
        let found = select(&["o1".to_owned()]).unwrap();
        assert_eq!(found[0].id, "O1");
    }

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_target() {
        for (place, row) in ROWS.iter().enumerate() {
            assert!(!row.target.is_empty() && !row.what.is_empty());
            assert!(ROWS[..place].iter().all(|other| other.id != row.id), "{} is there twice", row.id);
        }
    }
}
