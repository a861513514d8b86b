//! Action configs: which task starts on which events.
//!
//! Definitions, checks and templates; the index that events are matched against; the stored rows
//! with their history; the reconciler that applies a bundle's configs.

mod check;
mod compiled;
mod condition;
mod definition;
mod index;
mod live;
mod params_check;
#[cfg(test)]
mod properties;
mod reconciler;
mod single;
pub(crate) mod stored;
pub(crate) mod template;

pub use check::{ACTION_CONFIG_SCHEMA, check_configs, config_problems};
pub(crate) use check::{MAX_CONFIG_BYTES, check_config, check_identifier};
pub use compiled::CompiledActionConfig;
pub use condition::TriggerCondition;
pub use definition::{ActionConfig, ConfigAction, ConfigTrigger};
pub use index::{ActionConfigIndex, MatchedConfig};
pub use live::LiveConfigIndex;
pub use reconcile::OwnershipOptions;
pub use reconciler::{
    ACTION_CONFIGS_RECONCILER, ActionConfigArguments, ActionConfigReconciler, desired_config_set,
    parse_configs, plan_configs, sync_configs,
};
pub use single::set_config;
pub use stored::{ACTION_CONFIGS_CHANNEL, ActionConfigFilter, StoredActionConfig, read_configs};

/// Object kind of a config in plans.
pub const ACTION_CONFIG_KIND: &str = "action_config";

/// Planned writes of configs.
pub type ActionConfigSteps = reconcile::owned::PlannedObjectWrites<ActionConfig>;
