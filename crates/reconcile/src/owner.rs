//! Ownership of stored objects.

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
