//! Action configs: which task starts on which events.
//!
//! Their definitions, checks and templates; the index that events are matched against; the rows they are kept in, with every
//! version there was; the integration that brings a bundle's in.

mod check;
mod compiled;
mod condition;
mod definition;
mod index;
mod integration;
mod live;
mod plan;
#[cfg(test)]
mod properties;
mod single;
pub(crate) mod stored;
pub(crate) mod template;

pub(crate) use check::check_word;
pub use check::{ACTION_CONFIG_SCHEMA, check_configs, problems};
pub use compiled::Compiled;
pub use condition::Condition;
pub use definition::{Action, ActionConfig, Trigger};
pub use index::{Index, Pulled};
pub use integration::{ACTION_CONFIGS, ActionConfigs, apply_in_tx, configs_of, sync};
pub use live::Live;
pub use plan::{KIND, Steps, Terms, plan};
pub use single::set_one;
pub use stored::{CHANNEL, Stored, read};
