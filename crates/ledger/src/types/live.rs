//! The types as this process knows them now.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{AccountType, Definition, KeyedType};

/// All types at one moment, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Of accounts.
    pub accounts: BTreeMap<String, Arc<AccountType>>,
    /// Of locks.
    pub locks: BTreeMap<String, Arc<KeyedType>>,
    /// Of states.
    pub states: BTreeMap<String, Arc<KeyedType>>,
}

impl Catalogue {
    /// How many types there are.
    pub fn len(&self) -> usize {
        self.accounts.len() + self.locks.len() + self.states.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FromIterator<Definition> for Catalogue {
    fn from_iter<I: IntoIterator<Item = Definition>>(definitions: I) -> Self {
        let mut catalogue = Self::default();
        for definition in definitions {
            match definition {
                Definition::Account(kind) => drop(catalogue.accounts.insert(kind.name.clone(), kind.into())),
                Definition::Lock(kind) => drop(catalogue.locks.insert(kind.name.clone(), kind.into())),
                Definition::State(kind) => drop(catalogue.states.insert(kind.name.clone(), kind.into())),
            }
        }
        catalogue
    }
}

/// The types, kept current; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Types(Arc<RwLock<Arc<Catalogue>>>);

impl Types {
    /// What holds now. A request looks once and goes by that.
    pub fn now(&self) -> Arc<Catalogue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What holds from now on.
    pub fn set(&self, catalogue: Catalogue) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
    }
}
