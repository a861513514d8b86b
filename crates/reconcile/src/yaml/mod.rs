//! YAML within a budget: no file may cost more than it is worth. Either straight into structs, or as a [`Tree`] that
//! knows the line of everything in it.
//!
//! Duplicate keys, merge keys (`<<`), several documents in one file and numbers that are not finite are refused;
//! anchors and aliases may be used, what they expand to counts.

mod number;
mod tree;

use serde::de::DeserializeOwned;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Budget, Error, Options, UserMessageFormatter};

pub use tree::{Node, Tree};

/// Largest text, in bytes.
pub const MOST_BYTES: usize = 1 << 20;
/// Most nodes (keys, values, lists, mappings) of a text, what aliases expand to included.
pub const MOST_NODES: usize = 50_000;
/// Deepest nesting.
pub const DEEPEST: usize = 32;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// What, and what is allowed.
    pub reason: String,
}

/// What a text may cost, where more is needed than files of a bundle do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest text, in bytes.
    pub bytes: usize,
    /// Most nodes that are written out; what aliases expand to never exceeds [`MOST_NODES`].
    pub nodes: usize,
}

const OF_A_FILE: Limits = Limits { bytes: MOST_BYTES, nodes: MOST_NODES };

/// Reads YAML; what is wrong is said in one line, which never shows the text around it: it may hold a secret.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    check_size(text, OF_A_FILE)
        .and_then(|()| {
            serde_saphyr::from_str_with_options(text, options(OF_A_FILE)).map_err(|error| problem(&error))
        })
        .map_err(|problem| format!("line {}: {}", problem.line, problem.reason))
}

/// Reads YAML with the lines of everything in it.
pub fn read(text: &str) -> Result<Tree, Problem> {
    read_within(text, OF_A_FILE)
}

/// Reads YAML with the lines of everything in it, within other limits than those of files.
pub fn read_within(text: &str, limits: Limits) -> Result<Tree, Problem> {
    check_size(text, limits)?;
    let mut tree = tree::parse(text, options(limits)).map_err(|error| problem(&error))?;
    tree::as_written(&mut tree, text)?;
    Ok(tree)
}

fn check_size(text: &str, limits: Limits) -> Result<(), Problem> {
    if text.len() <= limits.bytes {
        return Ok(());
    }
    Err(Problem { line: 1, reason: format!("the text is larger than {} bytes", limits.bytes) })
}

fn options(limits: Limits) -> Options {
    // Neither struct can be written out elsewhere: fields may be added to them.
    let mut budget = Budget::default();
    budget.max_documents = 1;
    budget.max_depth = DEEPEST;
    budget.flow_nesting_limit = DEEPEST;
    budget.max_nodes = limits.nodes;
    budget.max_events = 2 * limits.nodes;
    budget.max_aliases = 1000;
    budget.max_anchors = 1000;
    budget.max_recorded_anchor_events = 2 * MOST_NODES;
    budget.max_recorded_anchor_bytes = 4 * MOST_BYTES;
    budget.max_total_scalar_bytes = limits.bytes;
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = MOST_NODES;
    aliases.max_replay_stack_depth = 8;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits = aliases;
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    // `on: x` has the key `on`, not the key `true`.
    options.strict_booleans = true;
    options
}

/// What there is too much of.
fn costly(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } | BudgetBreach::InclusionDepth { .. } => {
            format!("it is nested more than {DEEPEST} levels deep")
        }
        BudgetBreach::Events { .. } | BudgetBreach::Nodes { .. } => {
            "it has too many keys, values, lists and mappings".to_owned()
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. }
        | BudgetBreach::RecordedAnchorEvents { .. } => "it has too many anchors and aliases".to_owned(),
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::InputBytes { .. } => {
            "it has too many bytes of text".to_owned()
        }
        _ => "it has too much of something".to_owned(),
    }
}

fn problem(error: &Error) -> Problem {
    let error = error.without_snippet();
    let line = error.location().map_or(1, |location| location.line().max(1));
    let reason = match error {
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            "a file holds one document".to_owned()
        }
        Error::DuplicateMappingKey { key, .. } => {
            format!(
                "the key {}is there twice",
                key.as_ref().map(|key| format!("`{key}` ")).unwrap_or_default()
            )
        }
        Error::Budget { breach, .. } => format!("the text is too costly to read: {}", costly(breach)),
        Error::MergeKeyNotAllowed { .. } => "merge keys (<<) are not allowed".to_owned(),
        error => {
            let text = error.render_with_formatter(&UserMessageFormatter);
            // The place is said by the line.
            text.split(" at line ").next().unwrap_or_default().to_owned()
        }
    };
    Problem { line: u32::try_from(line).unwrap_or(u32::MAX), reason }
}
