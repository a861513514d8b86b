//! Types of accounts, locks and states: definitions, reconciliation from the bundle into the
//! control database, and the in-process registry.

mod change;
mod check;
mod definition;
mod grouping;
mod plan;
mod reconciler;
mod refresh;
mod registry;
mod rows;
mod usage;
mod value;

pub use change::{LedgerTypeObjection, find_objections};
pub use check::{MAX_ATTRIBUTES_PER_TYPE, MAX_GROUPINGS_PER_TYPE, check_types};

pub(crate) use definition::find_attribute;
pub use definition::{
    AccountType, AggregateInterval, KeyedType, LedgerAttribute, LedgerTypeDefinition,
    LedgerTypeKind, RESERVED_ATTRIBUTE_NAMES,
};
pub(crate) use grouping::{GroupingColumns, find_serving_grouping};
pub use plan::{LedgerTypeUses, build_refusal, find_usage_questions};
pub use reconcile::OwnershipOptions;
pub use reconciler::{
    LEDGER_TYPES_RECONCILER, LedgerTypeArguments, LedgerTypeReconciler, LedgerTypeUsage,
    LedgerTypeUsageQuery, parse_bundle_types,
};
pub use refresh::keep_types_current;
pub use registry::{LedgerTypeCatalogue, LedgerTypeRegistry};
pub use rows::{
    LedgerTypeRow, TYPES_CHANNEL, delete_type_in_tx, load_types, notify_types_in_tx,
    put_type_in_tx, read_all_types, read_types,
};
pub use usage::is_type_used;
pub use value::{AttributeType, MAX_STRING_BYTES};
