//! Templates: from a text to a graph, or to what is wrong with it, before anything is sent. Pure.
//!
//! [`parse`] reads the text within a budget, checks every name and reference, and gives the [`Graph`] of all integration
//! blocks: nested modules are dissolved into *wires* (values that pass a module's border).

mod evaluate;
mod expression;
mod former;
mod graph;
mod names;
mod read;
mod resolve;

use std::fmt;

pub use evaluate::{MOST_PARAMS, Trouble, Values};
pub use expression::{Expression, Piece};
pub use graph::{Block, Graph, Input, Node, Scope, Source};
pub use names::{Env, check_template_name, is_queue};

use reconcile::yaml::Limits;

/// What a template may cost: ten thousand blocks are 3 MB.
const LIMITS: Limits = Limits { bytes: 6 << 20, nodes: 600_000 };
/// Most integration blocks of a template.
pub const MOST_BLOCKS: usize = 20_000;
/// Faults told of one template.
const MOST_FAULTS: usize = 20;
/// The root block.
pub const GLOBAL: &str = "global";

/// One thing that is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The block, as `module.block`; `global` for the template itself.
    pub block: String,
    /// The line, from 1.
    pub line: u32,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: block {}: {}", self.line, self.block, self.reason)
    }
}

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, block: &str, line: u32, reason: impl Into<String>) {
        self.add_with(block, line, || reason.into());
    }

    /// One whose reason takes time to work out: only if it is told.
    pub(crate) fn add_with(&mut self, block: &str, line: u32, reason: impl FnOnce() -> String) {
        if self.0.len() < MOST_FAULTS {
            self.0.push(Fault { block: block.to_owned(), line, reason: reason() });
        }
    }

    fn none_or<T>(self, value: T) -> Result<T, Vec<Fault>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// Reads a template. Takes up to a second for the largest ones: not for a thread that serves others.
pub fn parse(text: &str) -> Result<Graph, Vec<Fault>> {
    let tree = reconcile::yaml::read_within(text, LIMITS).map_err(|problem| {
        vec![Fault { block: GLOBAL.to_owned(), line: problem.line, reason: problem.reason }]
    })?;
    let mut faults = Faults::default();
    let root = read::root(&tree, &mut faults);
    // What cannot be read cannot be resolved.
    let root = faults.none_or(root)?;
    let mut faults = Faults::default();
    let graph = resolve::resolve(&root, &mut faults);
    faults.none_or(graph)
}
