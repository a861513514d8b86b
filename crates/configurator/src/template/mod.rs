//! Templates: parsing and validation of the text, and its graph. Pure.
//!
//! [`parse_template`] parses the text within limits, checks every name and reference, and
//! returns the [`BlockGraph`] of all integration blocks. Nested modules become *wires*: values
//! that cross a module boundary.

mod block_reader;
mod evaluate;
mod expression;
mod former_names;
mod graph;
mod names;
mod read;
mod resolve;
mod written;

use std::fmt;

pub use evaluate::{EvaluationContext, EvaluationError, MAX_PARAMS_BYTES};
pub use expression::{Expression, TextPiece};
pub use graph::{Block, BlockGraph, BlockGraphNode, BlockValueSource, RunInput, RunInputScope};
pub use names::{Env, check_template_name, is_queue_name};

use yaml::YamlLimits;

/// Limits of a template's YAML: 6 MiB; 10,000 blocks take 3 MB.
const TEMPLATE_YAML_LIMITS: YamlLimits = YamlLimits { max_bytes: 6 << 20, max_nodes: 600_000 };
/// Maximum integration blocks of a template.
pub const MAX_TEMPLATE_BLOCKS: usize = 20_000;
/// Maximum reported faults per template.
const MAX_REPORTED_FAULTS: usize = 20;
/// Name of the root module.
pub const ROOT_MODULE_NAME: &str = "global";

/// A fault in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTemplateFault {
    /// The block, as `module.block`; `global` for the template as a whole.
    pub block: String,
    /// Line in the template, from 1.
    pub line: u32,
    /// The fault, and which values are allowed.
    pub reason: String,
}

impl fmt::Display for BlockTemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: block {}: {}", self.line, self.block, self.reason)
    }
}

/// Collects the faults of a template, up to the limit.
#[derive(Debug, Default)]
pub(crate) struct BlockTemplateFaults(Vec<BlockTemplateFault>);

impl BlockTemplateFaults {
    pub(crate) fn add(&mut self, block: &str, line: u32, reason: impl Into<String>) {
        self.add_with(block, line, || reason.into());
    }

    /// Like [`add`](Self::add), with a reason that is expensive to compute: only
    /// computed below the limit.
    pub(crate) fn add_with(&mut self, block: &str, line: u32, reason: impl FnOnce() -> String) {
        if self.0.len() < MAX_REPORTED_FAULTS {
            self.0.push(BlockTemplateFault { block: block.to_owned(), line, reason: reason() });
        }
    }

    fn into_result<T>(self, value: T) -> Result<T, Vec<BlockTemplateFault>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// Parses a template. CPU-bound: up to a second for the largest ones, so not for
/// an async worker thread.
pub fn parse_template(text: &str) -> Result<BlockGraph, Vec<BlockTemplateFault>> {
    let tree = yaml::read_tree_within(text, TEMPLATE_YAML_LIMITS).map_err(|problem| {
        vec![BlockTemplateFault {
            block: ROOT_MODULE_NAME.to_owned(),
            line: problem.line,
            reason: problem.reason,
        }]
    })?;
    let mut faults = BlockTemplateFaults::default();
    let root = read::read_root_module(&tree, &mut faults);
    // A template with faults in its structure is not resolved.
    let root = faults.into_result(root)?;
    let mut faults = BlockTemplateFaults::default();
    let graph = resolve::resolve_template(&root, &mut faults);
    faults.into_result(graph)
}
