//! Former names of blocks and modules (`renamed_from`).

use std::collections::{HashMap, HashSet};

use super::BlockTemplateFaults;
use super::written::{ModuleMember, TemplateModule};

/// Maximum former names per block.
pub(super) const MAX_FORMER_NAMES: usize = 20;

/// The full name of a block or module, and its possible former names.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockNames {
    /// Empty for the root.
    full_name: String,
    pub(super) former_names: Vec<String>,
}

fn join_names(module_name: &str, name: &str) -> String {
    if module_name.is_empty() { name.to_owned() } else { format!("{module_name}.{name}") }
}

impl BlockNames {
    pub(super) fn root() -> Self {
        Self::default()
    }

    pub(super) fn display_name(&self) -> &str {
        if self.full_name.is_empty() { super::ROOT_MODULE_NAME } else { &self.full_name }
    }

    /// The full name of the member called `name`.
    pub(super) fn child_name(&self, name: &str) -> String {
        join_names(&self.full_name, name)
    }

    /// The part of a member's full name after the full name of this module.
    fn strip_full_name(&self, name: &str) -> Option<String> {
        let last_part = self.full_name.rsplit('.').next().unwrap_or_default();
        if last_part.is_empty() {
            return Some(name.to_owned());
        }
        let member = name.strip_prefix(self.full_name.as_str())?.strip_prefix('.')?;
        Some(member.to_owned())
    }

    /// The names of a member: its own `renamed_from` first, then its names under the former
    /// names of this module.
    pub(super) fn child_names(&self, name: &str, renamed_from: &[String]) -> Self {
        let full = self.child_name(name);
        let mut own = vec![name.to_owned()];
        own.extend(renamed_from.iter().filter_map(|former| self.strip_full_name(former)));
        let moved = self
            .former_names
            .iter()
            .flat_map(|around| own.iter().map(move |name| join_names(around, name)));
        let mut former: Vec<String> = Vec::new();
        for candidate in renamed_from.iter().cloned().chain(moved) {
            if candidate != full && !former.contains(&candidate) && former.len() < MAX_FORMER_NAMES
            {
                former.push(candidate);
            }
        }
        Self { full_name: full, former_names: former }
    }
}

/// A former name must not be the name of an existing block, and only one block may claim it.
pub(super) fn check_former_names(root: &TemplateModule, faults: &mut BlockTemplateFaults) {
    let (mut current_names, mut claims) = (HashSet::new(), Vec::new());
    collect_claims(root, &mut current_names, &mut claims);
    let mut claimed: HashMap<&str, &str> = HashMap::new();
    for (name, line, former) in claims {
        if current_names.contains(former) {
            faults.add(
                name,
                line,
                format!("`renamed_from: {former}`: there is still a block of this name"),
            );
        } else if let Some(other) = claimed.insert(former, name) {
            faults.add(name, line, format!("`renamed_from: {former}`: {other} says the same"));
        }
    }
}

type FormerNameClaim<'m> = (&'m str, u32, &'m str);

fn collect_claims<'m>(
    module: &'m TemplateModule,
    current_names: &mut HashSet<&'m str>,
    claims: &mut Vec<FormerNameClaim<'m>>,
) {
    for member in &module.members {
        let (name, line, renamed_from) = match member {
            ModuleMember::Module(inner) => {
                collect_claims(inner, current_names, claims);
                (&inner.full_name, inner.line, &inner.renamed_from)
            }
            ModuleMember::Block(block) => (&block.full_name, block.line, &block.renamed_from),
        };
        current_names.insert(name);
        claims.extend(renamed_from.iter().map(|former| (name.as_str(), line, former.as_str())));
    }
}
