//! The names that blocks had before.

use std::collections::{HashMap, HashSet};

use super::Faults;
use super::read::{Member, Module};

/// Former names of one block, at most.
pub(super) const MOST_FORMER: usize = 20;

/// The name of a block or module in full, and those it may have had.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Empty: the root.
    full: String,
    pub(super) former: Vec<String>,
}

fn joined(around: &str, name: &str) -> String {
    if around.is_empty() { name.to_owned() } else { format!("{around}.{name}") }
}

impl Names {
    pub(super) fn root() -> Self {
        Self::default()
    }

    pub(super) fn shown(&self) -> &str {
        if self.full.is_empty() { super::GLOBAL } else { &self.full }
    }

    /// What is called `name` in it.
    pub(super) fn with(&self, name: &str) -> String {
        joined(&self.full, name)
    }

    /// The names of what is in it: what it says itself, then what it would be called in this module's former names.
    pub(super) fn inner(&self, name: &str, renamed_from: &[String]) -> Self {
        let full = self.with(name);
        let within =
            self.full.rsplit('.').next().filter(|own| !own.is_empty()).map(|_| format!("{}.", self.full));
        let beside = |former: &String| match &within {
            Some(within) => former.strip_prefix(within.as_str()).map(str::to_owned),
            None => Some(former.clone()),
        };
        let own: Vec<String> =
            [name.to_owned()].into_iter().chain(renamed_from.iter().filter_map(beside)).collect();
        let moved = self.former.iter().flat_map(|around| own.iter().map(move |name| joined(around, name)));
        let mut former: Vec<String> = Vec::new();
        for candidate in renamed_from.iter().cloned().chain(moved) {
            if candidate != full && !former.contains(&candidate) && former.len() < MOST_FORMER {
                former.push(candidate);
            }
        }
        Self { full, former }
    }
}

/// A former name is nobody's now, and nobody else's before.
pub(super) fn check(root: &Module, faults: &mut Faults) {
    let (mut living, mut claims) = (HashSet::new(), Vec::new());
    collect(root, &mut living, &mut claims);
    let mut claimed: HashMap<&str, &str> = HashMap::new();
    for (name, line, former) in claims {
        if living.contains(former) {
            faults.add(name, line, format!("`renamed_from: {former}`: there is still a block of this name"));
        } else if let Some(other) = claimed.insert(former, name) {
            faults.add(name, line, format!("`renamed_from: {former}`: {other} says the same"));
        }
    }
}

type Claim<'m> = (&'m str, u32, &'m str);

fn collect<'m>(module: &'m Module, living: &mut HashSet<&'m str>, claims: &mut Vec<Claim<'m>>) {
    for member in &module.members {
        let (name, line, renamed_from) = match member {
            Member::Module(inner) => {
                collect(inner, living, claims);
                (&inner.full_name, inner.line, &inner.renamed_from)
            }
            Member::Block(block) => (&block.full_name, block.line, &block.renamed_from),
        };
        living.insert(name);
        claims.extend(renamed_from.iter().map(|former| (name.as_str(), line, former.as_str())));
    }
}
