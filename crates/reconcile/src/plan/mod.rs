//! A plan: what brings a target to the desired state, and what was refused.

mod diff;

use serde::Serialize;
use serde_json::Value as Json;

pub use diff::{FieldChange, diff};

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
}

/// A change of one object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// What kind of object it is, such as `account_type`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What changes in it.
    pub fields: Vec<FieldChange>,
}

/// A change that is not made. The object is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What was wanted.
    pub action: Action,
    /// What kind of object it is.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why not, and what to do instead.
    pub reason: String,
}

/// What brings a target to the desired state.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    /// What changes.
    pub changes: Vec<Change>,
    /// What is refused.
    pub refused: Vec<Refusal>,
    /// How many objects that were nobody's now belong to the bundle, as they are.
    pub adopted: usize,
}

impl Plan {
    /// Adds a creation; every field of `after` is new.
    pub fn create(&mut self, kind: &str, name: &str, after: &Json) {
        self.add(Action::Create, kind, name, diff(&Json::Object(Default::default()), after));
    }

    /// Adds a change of fields.
    pub fn update(&mut self, kind: &str, name: &str, fields: Vec<FieldChange>) {
        self.add(Action::Update, kind, name, fields);
    }

    /// Adds a deletion; every field of `before` goes.
    pub fn delete(&mut self, kind: &str, name: &str, before: &Json) {
        self.add(Action::Delete, kind, name, diff(before, &Json::Object(Default::default())));
    }

    /// Adds a refusal.
    pub fn refuse(&mut self, action: Action, kind: &str, name: &str, reason: impl Into<String>) {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.refused.push(Refusal { action, kind, name, reason: reason.into() });
    }

    /// How many changes of a kind there are.
    pub fn count(&self, action: Action) -> usize {
        self.changes.iter().filter(|change| change.action == action).count()
    }

    fn add(&mut self, action: Action, kind: &str, name: &str, fields: Vec<FieldChange>) {
        self.changes.push(Change { action, kind: kind.to_owned(), name: name.to_owned(), fields });
    }
}
