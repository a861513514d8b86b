//! The types as this process knows them now.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{AccountType, KeyedType, LedgerTypeDefinition};

/// All types at one moment, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerTypeCatalogue {
    /// Of accounts.
    pub accounts: BTreeMap<String, Arc<AccountType>>,
    /// Of locks.
    pub locks: BTreeMap<String, Arc<KeyedType>>,
    /// Of states.
    pub states: BTreeMap<String, Arc<KeyedType>>,
}

impl LedgerTypeCatalogue {
    /// How many types there are.
    pub fn len(&self) -> usize {
        self.accounts.len() + self.locks.len() + self.states.len()
    }

    /// Whether there are none.
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

/// The types, kept current; clones share them.
#[derive(Debug, Clone, Default)]
pub struct LedgerTypeRegistry(Arc<RwLock<Arc<LedgerTypeCatalogue>>>);

impl LedgerTypeRegistry {
    /// What holds now. A request looks once and goes by that.
    pub fn current(&self) -> Arc<LedgerTypeCatalogue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What holds from now on.
    pub fn set(&self, catalogue: LedgerTypeCatalogue) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
    }
}
