//! In-process registry of type definitions, replaced as a whole on refresh.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{AccountType, KeyedType, LedgerTypeDefinition};

/// Snapshot of all types, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerTypeCatalogue {
    /// Account types by name.
    pub accounts: BTreeMap<String, Arc<AccountType>>,
    /// Lock types by name.
    pub locks: BTreeMap<String, Arc<KeyedType>>,
    /// State types by name.
    pub states: BTreeMap<String, Arc<KeyedType>>,
}

impl LedgerTypeCatalogue {
    /// Number of types of all kinds.
    pub fn len(&self) -> usize {
        self.accounts.len() + self.locks.len() + self.states.len()
    }

    /// Whether the catalogue has no types.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<LedgerTypeDefinition> for LedgerTypeCatalogue {
    fn from_iter<I: IntoIterator<Item = LedgerTypeDefinition>>(definitions: I) -> Self {
        let mut catalogue = Self::default();
        for definition in definitions {
            match definition {
                LedgerTypeDefinition::Account(kind) => {
                    drop(catalogue.accounts.insert(kind.name.clone(), kind.into()))
                }
                LedgerTypeDefinition::Lock(kind) => {
                    drop(catalogue.locks.insert(kind.name.clone(), kind.into()))
                }
                LedgerTypeDefinition::State(kind) => {
                    drop(catalogue.states.insert(kind.name.clone(), kind.into()))
                }
            }
        }
        catalogue
    }
}

/// Current catalogue; clones share it.
#[derive(Debug, Clone, Default)]
pub struct LedgerTypeRegistry(Arc<RwLock<Arc<LedgerTypeCatalogue>>>);

impl LedgerTypeRegistry {
    /// Current snapshot. A request takes one snapshot and uses it throughout.
    pub fn current(&self) -> Arc<LedgerTypeCatalogue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the snapshot for later requests.
    pub fn set(&self, catalogue: LedgerTypeCatalogue) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
    }
}
