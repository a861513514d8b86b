//! Templates: from a text to a graph, or to what is wrong with it, before anything is sent. Pure.
//!
//! [`parse_template`] reads the text within a budget, checks every name and reference, and gives the [`BlockGraph`] of all integration
//! blocks: nested modules are dissolved into *wires* (values that pass a module's border).

mod evaluate;
mod expression;
mod former_names;
mod graph;
mod names;
mod read;
mod resolve;

use std::fmt;

pub use evaluate::{EvaluationContext, EvaluationError, MAX_PARAMS_BYTES};
pub use expression::{Expression, TextPiece};
pub use graph::{Block, BlockGraph, BlockGraphNode, BlockValueSource, RunInput, RunInputScope};
pub use names::{Env, check_template_name, is_queue_name};

use reconcile::yaml::YamlLimits;

/// What a template may cost: ten thousand blocks are 3 MB.
const TEMPLATE_YAML_LIMITS: YamlLimits = YamlLimits { max_bytes: 6 << 20, max_nodes: 600_000 };
/// Most integration blocks of a template.
pub const MAX_TEMPLATE_BLOCKS: usize = 20_000;
/// Faults told of one template.
const MAX_REPORTED_FAULTS: usize = 20;
/// The root block.
pub const ROOT_MODULE_NAME: &str = "global";

/// One thing that is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTemplateFault {
    /// The block, as `module.block`; `global` for the template itself.
    pub block: String,
    /// The line, from 1.
    pub line: u32,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl fmt::Display for BlockTemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: block {}: {}", self.line, self.block, self.reason)
    }
}

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct BlockTemplateFaults(Vec<BlockTemplateFault>);

impl BlockTemplateFaults {
    pub(crate) fn add(&mut self, block: &str, line: u32, reason: impl Into<String>) {
        self.add_with(block, line, || reason.into());
    }

    /// One whose reason takes time to work out: only if it is told.
    pub(crate) fn add_with(&mut self, block: &str, line: u32, reason: impl FnOnce() -> String) {
        if self.0.len() < MAX_REPORTED_FAULTS {
            self.0.push(BlockTemplateFault { block: block.to_owned(), line, reason: reason() });
        }
    }

    fn into_result<T>(self, value: T) -> Result<T, Vec<BlockTemplateFault>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// Reads a template. Takes up to a second for the largest ones: not for a thread that serves others.
pub fn parse_template(text: &str) -> Result<BlockGraph, Vec<BlockTemplateFault>> {
    let tree =
        reconcile::yaml::read_tree_within(text, TEMPLATE_YAML_LIMITS).map_err(|problem| {
            vec![BlockTemplateFault {
                block: ROOT_MODULE_NAME.to_owned(),
                line: problem.line,
                reason: problem.reason,
            }]
        })?;
    let mut faults = BlockTemplateFaults::default();
    let root = read::read_root_module(&tree, &mut faults);
    // What cannot be read cannot be resolved.
    let root = faults.into_result(root)?;
    let mut faults = BlockTemplateFaults::default();
    let graph = resolve::resolve_template(&root, &mut faults);
    faults.into_result(graph)
}
