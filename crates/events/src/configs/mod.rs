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
mod params_check;
#[cfg(test)]
mod properties;
mod single;
pub(crate) mod stored;
pub(crate) mod template;

pub use check::{ACTION_CONFIG_SCHEMA, check_configs, problems};
pub(crate) use check::{MAX_CONFIG_BYTES, check_word, problems_beside};
pub use compiled::Compiled;
pub use condition::Condition;
pub use definition::{Action, ActionConfig, Trigger};
pub use index::{Index, Pulled};
pub use integration::{ACTION_CONFIGS, ActionConfigs, Kept, configs_of, plan, set, sync};
pub use live::Live;
pub use reconcile::owned::Terms;
pub use single::set_one;
pub use stored::{CHANNEL, Stored, read};

/// What kind of object a config is, in plans.
pub const KIND: &str = "action_config";

/// What is done to configs.
pub type Steps = reconcile::owned::Steps<ActionConfig>;
