//! Who owns a stored object.

/// The owner of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The bundle built into the program; counts as nobody.
    Builtin,
    /// The configuration bundle.
    Bundle,
    /// Clients of the API.
    Api,
    /// The configurator.
    Configurator,
}

impl Owner {
    const ALL: [Self; 4] = [Owner::Builtin, Owner::Bundle, Owner::Api, Owner::Configurator];

    /// As stored.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Builtin => "builtin",
            Owner::Bundle => "bundle",
            Owner::Api => "api",
            Owner::Configurator => "configurator",
        }
    }

    /// The owner stored as `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|owner| owner.name() == name)
    }

    /// Whether a bundle may change or delete what it owns without taking it over from somebody.
    pub fn yields_to_bundle(self) -> bool {
        matches!(self, Owner::Builtin | Owner::Bundle)
    }
}
