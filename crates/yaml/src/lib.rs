//! YAML reader with limits on size, depth and alias expansion. Deserializes into structs, or to a
//! [`YamlTree`] with line numbers. Error messages: field paths, lists of names, suggestions.
//!
//! Rejects duplicate keys, merge keys (`<<`), multiple documents and numbers that are not finite.
//! Anchors and aliases are allowed; their expansion counts towards the limits.

mod field;
mod names;
mod number;
mod tree;

use serde::de::DeserializeOwned;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Budget, Error, Options, UserMessageFormatter};

pub use field::{FieldPath, FieldStep};
pub use names::{list_names, suggest_name};
pub use tree::{YamlNode, YamlTree};

/// Maximum size of a text in bytes.
pub const MAX_YAML_BYTES: usize = 1 << 20;
/// Maximum number of nodes (keys, values, lists, mappings) in a text, including
/// the expansion of aliases.
pub const MAX_YAML_NODES: usize = 50_000;
/// Maximum nesting depth.
pub const MAX_YAML_DEPTH: usize = 32;

/// A problem in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlProblem {
    /// Line number, from 1.
    pub line: u32,
    /// The problem and the allowed values.
    pub reason: String,
}

/// Limits for callers whose texts may be larger than the files of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct YamlLimits {
    /// Maximum size of a text in bytes.
    pub max_bytes: usize,
    /// Maximum number of written nodes; the expansion of aliases never exceeds [`MAX_YAML_NODES`].
    pub max_nodes: usize,
}

const FILE_LIMITS: YamlLimits = YamlLimits { max_bytes: MAX_YAML_BYTES, max_nodes: MAX_YAML_NODES };

/// Deserializes YAML. Errors are one line with the line number, without a snippet of the text: it
/// may contain a secret.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    check_size(text, FILE_LIMITS)
        .and_then(|()| {
            serde_saphyr::from_str_with_options(text, reader_options(FILE_LIMITS))
                .map_err(|error| describe_error(&error))
        })
        .map_err(|problem| format!("line {}: {}", problem.line, problem.reason))
}

/// Parses YAML into a tree with line numbers, within the limits of bundle files.
pub fn read_tree(text: &str) -> Result<YamlTree, YamlProblem> {
    read_tree_within(text, FILE_LIMITS)
}

/// Parses YAML into a tree with line numbers, within the given limits.
pub fn read_tree_within(text: &str, limits: YamlLimits) -> Result<YamlTree, YamlProblem> {
    check_size(text, limits)?;
    let mut tree =
        tree::parse_tree(text, reader_options(limits)).map_err(|error| describe_error(&error))?;
    tree::restore_numbers(&mut tree, text)?;
    Ok(tree)
}

fn check_size(text: &str, limits: YamlLimits) -> Result<(), YamlProblem> {
    if text.len() <= limits.max_bytes {
        return Ok(());
    }
    Err(YamlProblem {
        line: 1,
        reason: format!("the text is larger than {} bytes", limits.max_bytes),
    })
}

fn reader_options(limits: YamlLimits) -> Options {
    // Both structs are `non_exhaustive`, so they have no struct literals.
    let mut budget = Budget::default();
    budget.max_documents = 1;
    budget.max_depth = MAX_YAML_DEPTH;
    budget.flow_nesting_limit = MAX_YAML_DEPTH;
    budget.max_nodes = limits.max_nodes;
    budget.max_events = 2 * limits.max_nodes;
    budget.max_aliases = 1000;
    budget.max_anchors = 1000;
    budget.max_recorded_anchor_events = 2 * MAX_YAML_NODES;
    budget.max_recorded_anchor_bytes = 4 * MAX_YAML_BYTES;
    budget.max_total_scalar_bytes = limits.max_bytes;
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = MAX_YAML_NODES;
    aliases.max_replay_stack_depth = 8;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits = aliases;
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    // As in YAML 1.2, `on: x` has the key `on`, not the key `true`.
    options.strict_booleans = true;
    options
}

/// Which limit was exceeded.
fn budget_reason(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } | BudgetBreach::InclusionDepth { .. } => {
            format!("it is nested more than {MAX_YAML_DEPTH} levels deep")
        }
        BudgetBreach::Events { .. } | BudgetBreach::Nodes { .. } => {
            "it has too many keys, values, lists and mappings".to_owned()
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::RecordedAnchorEvents { .. } => {
            "it has too many anchors and aliases".to_owned()
        }
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::InputBytes { .. } => {
            "it has too many bytes of text".to_owned()
        }
        _ => "it has too much of something".to_owned(),
    }
}

fn describe_error(error: &Error) -> YamlProblem {
    let error = error.without_snippet();
    let line = error.location().map_or(1, |location| location.line().max(1));
    let reason = match error {
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. }
        | Error::MultipleDocuments { .. } => "a file holds one document".to_owned(),
        Error::DuplicateMappingKey { key, .. } => {
            format!(
                "the key {}is there twice",
                key.as_ref().map(|key| format!("`{key}` ")).unwrap_or_default()
            )
        }
        Error::Budget { breach, .. } => {
            format!("the text is too costly to read: {}", budget_reason(breach))
        }
        Error::MergeKeyNotAllowed { .. } => "merge keys (<<) are not allowed".to_owned(),
        error => {
            let text = error.render_with_formatter(&UserMessageFormatter);
            // The line number is in the problem already.
            text.split(" at line ").next().unwrap_or_default().to_owned()
        }
    };
    YamlProblem { line: u32::try_from(line).unwrap_or(u32::MAX), reason }
}
