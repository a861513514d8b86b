//! Who owns a stored object.

/// The owner of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectOwner {
    /// The bundle built into the program; counts as nobody.
    Builtin,
    /// The configuration bundle.
    Bundle,
    /// Clients of the API.
    Api,
    /// The configurator.
    Configurator,
}

impl ObjectOwner {
    const ALL: [Self; 4] =
        [ObjectOwner::Builtin, ObjectOwner::Bundle, ObjectOwner::Api, ObjectOwner::Configurator];

    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            ObjectOwner::Builtin => "builtin",
            ObjectOwner::Bundle => "bundle",
            ObjectOwner::Api => "api",
            ObjectOwner::Configurator => "configurator",
        }
    }

    /// The owner stored as `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|owner| owner.name() == name)
    }

    /// Whether a bundle may change or delete what it owns without taking it over from somebody.
    pub fn yields_to_bundle(self) -> bool {
        matches!(self, ObjectOwner::Builtin | ObjectOwner::Bundle)
    }
}
