//! The types of accounts, locks and states: read from the control database, where the bundle puts them.

mod definition;
mod live;
mod value;

pub use definition::{AccountType, Attribute, Definition, Interval, KeyedType, RESERVED};
pub use live::{Catalogue, Types};
pub use value::{AttributeType, LONGEST_STRING};
