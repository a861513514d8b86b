//! Scopes: what a client may do. No scope includes another, except that `admin` includes all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use yaml::{list_names, suggest_name};

/// Maximum length in bytes of an account type in a narrowed scope.
const MAX_TYPE_BYTES: usize = 100;

/// A permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Process and retry orders.
    OrdersProcess,
    /// Send callbacks with an order's data.
    OrdersCallback,
    /// Read orders.
    OrdersRead,
    /// Read the ledger; may be narrowed to account types.
    LedgerRead,
    /// Write the ledger, its locks and states; may be narrowed to account types.
    LedgerWrite,
    /// Read events, stories, action configs and tasks.
    EventsRead,
    /// Write events, statuses and tasks.
    EventsWrite,
    /// Execute tasks from outside: claim, heartbeat, complete.
    TasksExecute,
    /// Change action configs, schedules and templates; reconcile.
    ConfigsWrite,
    /// Run the configurator.
    ConfiguratorRun,
    /// Use the queues' own endpoint.
    QueuesUse,
    /// Read the metrics.
    MetricsRead,
    /// Everything.
    Admin,
}

impl Scope {
    /// All scopes, in display order.
    pub const ALL: [Self; 13] = [
        Self::OrdersProcess,
        Self::OrdersCallback,
        Self::OrdersRead,
        Self::LedgerRead,
        Self::LedgerWrite,
        Self::EventsRead,
        Self::EventsWrite,
        Self::TasksExecute,
        Self::ConfigsWrite,
        Self::ConfiguratorRun,
        Self::QueuesUse,
        Self::MetricsRead,
        Self::Admin,
    ];

    /// Name in the clients file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrdersProcess => "orders:process",
            Self::OrdersCallback => "orders:callback",
            Self::OrdersRead => "orders:read",
            Self::LedgerRead => "ledger:read",
            Self::LedgerWrite => "ledger:write",
            Self::EventsRead => "events:read",
            Self::EventsWrite => "events:write",
            Self::TasksExecute => "tasks:execute",
            Self::ConfigsWrite => "configs:write",
            Self::ConfiguratorRun => "configurator:run",
            Self::QueuesUse => "queues:use",
            Self::MetricsRead => "metrics:read",
            Self::Admin => "admin",
        }
    }

    /// Whether the scope may be narrowed to an account type.
    const fn can_be_narrowed(self) -> bool {
        matches!(self, Self::LedgerRead | Self::LedgerWrite)
    }

    fn find_by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a route or an rpc demands of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteAccess {
    /// Nothing: also callers without credentials.
    Open,
    /// Any authenticated client.
    AnyClient,
    /// This scope, for all account types.
    Scope(Scope),
    /// This scope; if narrowed, to the account type that the path's `{type}` names.
    TypeInPath(Scope),
    /// This scope; if narrowed, the handler checks the account types of the body.
    TypeInBody(Scope),
}

impl From<Scope> for RouteAccess {
    fn from(scope: Scope) -> Self {
        Self::Scope(scope)
    }
}

impl RouteAccess {
    /// The demanded scope; `None` if none is.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Open | Self::AnyClient => None,
            Self::Scope(scope) | Self::TypeInPath(scope) | Self::TypeInBody(scope) => Some(scope),
        }
    }

    /// Short form for documents and logs: the scope's name, `any client` or `open`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AnyClient => "any client",
            Self::Scope(scope) | Self::TypeInPath(scope) | Self::TypeInBody(scope) => scope.name(),
        }
    }
}

/// Why a text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScopeParseError {
    /// No scope has this name.
    #[error("`{name}` is not a scope{suggestion}; allowed are {allowed}")]
    Unknown {
        /// The text, shortened.
        name: String,
        /// Names the nearest scope, or is empty.
        suggestion: String,
        /// The names of all scopes.
        allowed: String,
    },
    /// The scope has no account types.
    #[error("`{0}` cannot be narrowed to an account type; only ledger:read and ledger:write can")]
    NotNarrowable(Scope),
    /// The account type is no identifier.
    #[error(
        "`{0}` is narrowed to something that is no account type: 1 to {MAX_TYPE_BYTES} \
         letters, digits, `_`, `-` or `.`"
    )]
    InvalidType(Scope),
}

/// The scopes of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantedScopes {
    whole: BTreeSet<Scope>,
    narrowed: BTreeMap<Scope, BTreeSet<String>>,
}

impl GrantedScopes {
    /// Parses a scope of the clients file and adds it; false if it is there already.
    pub(crate) fn add_parsed(&mut self, text: &str) -> Result<bool, ScopeParseError> {
        if let Some(scope) = Scope::find_by_name(text) {
            return Ok(self.whole.insert(scope));
        }
        let parts = text.match_indices(':').nth(1).map(|(colon, _)| text.split_at(colon));
        let known = parts.and_then(|(name, rest)| Some((Scope::find_by_name(name)?, &rest[1..])));
        let named = known.or_else(|| {
            let rest = text.strip_prefix("admin:")?;
            Some((Scope::Admin, rest))
        });
        let Some((scope, account_type)) = named else { return Err(unknown_scope_error(text)) };
        if !scope.can_be_narrowed() {
            return Err(ScopeParseError::NotNarrowable(scope));
        }
        if !is_type_name(account_type) {
            return Err(ScopeParseError::InvalidType(scope));
        }
        Ok(self.narrowed.entry(scope).or_default().insert(account_type.to_owned()))
    }

    /// Whether everything of this scope is allowed.
    pub(crate) fn includes(&self, scope: Scope) -> bool {
        self.whole.contains(&Scope::Admin) || self.whole.contains(&scope)
    }

    /// Whether this scope is allowed for one account type.
    pub(crate) fn includes_for_type(&self, scope: Scope, account_type: &str) -> bool {
        self.includes(scope)
            || self.narrowed.get(&scope).is_some_and(|types| types.contains(account_type))
    }

    /// Whether this scope is allowed for at least one account type.
    pub(crate) fn includes_for_some_type(&self, scope: Scope) -> bool {
        self.includes(scope) || self.narrowed.contains_key(&scope)
    }

    /// The scopes as the clients file spells them.
    pub fn names(&self) -> Vec<String> {
        let whole = self.whole.iter().map(|scope| scope.name().to_owned());
        let narrowed = self.narrowed.iter().flat_map(|(scope, types)| {
            types.iter().map(move |account_type| format!("{scope}:{account_type}"))
        });
        whole.chain(narrowed).collect()
    }
}

fn is_type_name(text: &str) -> bool {
    (1..=MAX_TYPE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

fn unknown_scope_error(text: &str) -> ScopeParseError {
    let names = Scope::ALL.map(Scope::name);
    ScopeParseError::Unknown {
        name: text.chars().take(80).collect(),
        suggestion: suggest_name(text, names),
        allowed: list_names(names),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn granted(texts: &[&str]) -> GrantedScopes {
        let mut scopes = GrantedScopes::default();
        for text in texts {
            scopes.add_parsed(text).unwrap();
        }
        scopes
    }

    #[test]
    fn a_wrong_scope_is_refused_with_the_nearest_name() {
        let mut scopes = GrantedScopes::default();
        for (text, part) in [
            ("orders:proces", "did you mean `orders:process`?"),
            ("orders:proces", "allowed are orders:process, orders:callback"),
            ("", "is not a scope"),
            ("*", "is not a scope"),
            ("ADMIN", "is not a scope"),
            (" admin", "is not a scope"),
            ("orders:read:x", "cannot be narrowed"),
            ("admin:x", "cannot be narrowed"),
            ("ledger:read:", "no account type"),
            ("ledger:read:a b", "no account type"),
            ("ledger:read:a:b", "no account type"),
        ] {
            let error = scopes.add_parsed(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(scopes, GrantedScopes::default());
    }

    #[test]
    fn a_narrowed_scope_holds_for_its_types_alone() {
        let scopes = granted(&["ledger:write:storage_outflow", "ledger:read"]);
        assert!(scopes.includes_for_type(Scope::LedgerWrite, "storage_outflow"));
        assert!(!scopes.includes_for_type(Scope::LedgerWrite, "storage"));
        assert!(!scopes.includes(Scope::LedgerWrite));
        assert!(scopes.includes_for_some_type(Scope::LedgerWrite));
        assert!(scopes.includes_for_type(Scope::LedgerRead, "anything"));
        assert_eq!(scopes.names(), ["ledger:read", "ledger:write:storage_outflow"]);
    }

    proptest! {
        #[test]
        fn no_scope_includes_another_but_admin_all(
            held in proptest::collection::btree_set(0..Scope::ALL.len(), 0..Scope::ALL.len()),
            needed in 0..Scope::ALL.len(),
        ) {
            let names: Vec<&str> = held.iter().map(|&n| Scope::ALL[n].name()).collect();
            let (scopes, needed) = (granted(&names), Scope::ALL[needed]);
            let is_held = names.contains(&needed.name()) || names.contains(&"admin");
            prop_assert_eq!(scopes.includes(needed), is_held);
            prop_assert_eq!(scopes.includes_for_type(needed, "x"), is_held);
            prop_assert_eq!(scopes.includes_for_some_type(needed), is_held);
        }

        #[test]
        fn what_is_shown_is_what_was_granted(
            held in proptest::collection::btree_set(0..Scope::ALL.len(), 0..6),
            types in proptest::collection::btree_set("[a-z_]{1,9}", 0..4),
        ) {
            let names: Vec<String> = held.iter().map(|&n| Scope::ALL[n].name().to_owned())
                .chain(types.iter().map(|kind| format!("ledger:read:{kind}"))).collect();
            let scopes = granted(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let shown = scopes.names();
            prop_assert_eq!(granted(&shown.iter().map(String::as_str).collect::<Vec<_>>()), scopes);
            prop_assert_eq!(shown.len(), names.len());
        }

        #[test]
        fn any_text_is_a_scope_or_an_error(text in ".{0,40}") {
            let mut scopes = GrantedScopes::default();
            let parsed = scopes.add_parsed(&text);
            prop_assert_eq!(parsed.is_ok(), scopes.names() == [text.clone()]);
        }
    }
}
