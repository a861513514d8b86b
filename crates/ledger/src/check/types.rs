//! Types that a check reads again for each shard, and account types that are missing in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgPool;
use store::Result;

use super::report::{LedgerCheckKind, LedgerCheckReport};
use crate::types::{LedgerTypeCatalogue, LedgerTypeRegistry, load_types};

/// Maximum number of missing types that are named per shard.
const MAX_NAMED_TYPES: usize = 20;

/// Source of the type catalogue of a check.
#[derive(Debug, Clone, Copy)]
pub enum LedgerTypeSource<'a> {
    /// The control database.
    Database(&'a PgPool),
    /// A registry that is refreshed elsewhere.
    Registry(&'a LedgerTypeRegistry),
}

impl<'a> From<&'a PgPool> for LedgerTypeSource<'a> {
    fn from(pool: &'a PgPool) -> Self {
        Self::Database(pool)
    }
}

impl<'a> From<&'a LedgerTypeRegistry> for LedgerTypeSource<'a> {
    fn from(registry: &'a LedgerTypeRegistry) -> Self {
        Self::Registry(registry)
    }
}

impl LedgerTypeSource<'_> {
    /// The present types. A type is committed before its first event: read after a shard's
    /// snapshot, they include the type of every event in it.
    pub(super) async fn load_catalogue(self) -> Result<Arc<LedgerTypeCatalogue>> {
        match self {
            Self::Database(pool) => Ok(Arc::new(load_types(pool).await?)),
            Self::Registry(registry) => Ok(registry.current()),
        }
    }
}

/// Account types of a shard's events that the catalogue lacks. Their events cannot be checked.
#[derive(Debug, Default)]
pub(super) struct MissingAccountTypes {
    /// Number of events by type, of at most [`MAX_NAMED_TYPES`] types.
    event_counts: BTreeMap<String, u64>,
    /// Number of events of the other types.
    other_event_count: u64,
}

impl MissingAccountTypes {
    pub(super) fn count_event(&mut self, type_name: &str) {
        if let Some(count) = self.event_counts.get_mut(type_name) {
            *count += 1;
        } else if self.event_counts.len() < MAX_NAMED_TYPES {
            self.event_counts.insert(type_name.to_owned(), 1);
        } else {
            self.other_event_count += 1;
        }
    }

    /// Adds one difference per type, and one for all types that are not named.
    pub(super) fn add_to_report(self, shard: &str, report: &mut LedgerCheckReport) {
        for (type_name, events) in self.event_counts {
            let what = format!("the type {type_name} is not there: {events} events not checked");
            report.add_difference(Some(shard), LedgerCheckKind::Content, what);
        }
        if self.other_event_count > 0 {
            let what =
                format!("more types are not there: {} events not checked", self.other_event_count);
            report.add_difference(Some(shard), LedgerCheckKind::Content, what);
        }
    }
}
