//! Ownership of stored objects, and the permissions of a run to change them.

/// The owner recorded with a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectOwner {
    /// The built-in bundle; other bundles may change its objects.
    Builtin,
    /// The configured bundle.
    Bundle,
    /// API clients.
    Api,
    /// The configurator.
    Configurator,
}

impl ObjectOwner {
    const ALL: [Self; 4] =
        [ObjectOwner::Builtin, ObjectOwner::Bundle, ObjectOwner::Api, ObjectOwner::Configurator];

    /// Name as stored in the database.
    pub fn name(self) -> &'static str {
        match self {
            ObjectOwner::Builtin => "builtin",
            ObjectOwner::Bundle => "bundle",
            ObjectOwner::Api => "api",
            ObjectOwner::Configurator => "configurator",
        }
    }

    /// Inverse of [`ObjectOwner::name`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|owner| owner.name() == name)
    }

    /// Whether a bundle may change or delete this owner's objects without `--take-over`.
    pub fn yields_to_bundle(self) -> bool {
        matches!(self, ObjectOwner::Builtin | ObjectOwner::Bundle)
    }
}

/// Ownership and permissions of a run.
#[derive(Debug, Clone, Copy)]
pub struct OwnershipOptions {
    /// Owner of the objects that the run writes.
    pub owner: ObjectOwner,
    /// Whether the run takes over objects of other owners.
    pub take_over: bool,
    /// Whether all objects of a kind may be deleted if the bundle has none.
    pub allow_delete_all: bool,
}
