//! The types of accounts, locks and states: read from the control database, where the bundle puts them.

mod definition;
mod keep;
mod live;
mod stored;
mod value;

pub use definition::{AccountType, Attribute, Definition, Interval, KeyedType, Kind, RESERVED};
pub use keep::keep_current;
pub use live::{Catalogue, Types};
pub use stored::{Stored, TYPES_CHANNEL, delete_in_tx, load, put_in_tx, read, tell_in_tx};
pub use value::{AttributeType, LONGEST_STRING};
