//! The types of accounts, locks and states: read from the control database, where the bundle puts them.

mod change;
mod check;
mod definition;
mod integration;
mod keep;
mod keeper;
mod live;
mod plan;
mod stored;
mod usage;
mod value;

pub use change::{Objection, objections};
pub use check::{MOST_ATTRIBUTES, MOST_GROUPINGS, check_types};

pub use definition::{AccountType, Attribute, Definition, Interval, KeyedType, Kind, RESERVED};
pub use integration::{Arguments, LEDGER_TYPES, LedgerTypes, Question, Usage, first_set, types_of};
pub use keep::keep_current;
pub use keeper::Kept;
pub use live::{Catalogue, Types};
pub use plan::{Uses, questions, refusal};
pub use reconcile::owned::Terms;
pub use stored::{Stored, TYPES_CHANNEL, delete_in_tx, load, put_in_tx, read, read_all, tell_in_tx};
pub use usage::used_on;
pub use value::{AttributeType, LONGEST_STRING};
