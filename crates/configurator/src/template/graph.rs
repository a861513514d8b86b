//! The graph of a template: integration blocks, wires between modules, and what depends on what.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::Expression;

/// A template, checked and resolved. Acyclic.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockGraph {
    /// What a run is given.
    pub inputs: Vec<RunInput>,
    /// Blocks and wires; their places are their ordinals.
    pub nodes: Vec<BlockGraphNode>,
    /// What the export says under `outputs`.
    pub outputs: Vec<(String, Expression<BlockValueSource>)>,
}

/// An input of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInput {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub scope: RunInputScope,
    /// Whether a run without it is refused.
    pub required: bool,
    /// What holds if it is not given.
    pub default: Option<Json>,
}

/// Where an input's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunInputScope {
    /// `general_inputs`.
    General,
    /// `env_inputs`.
    Env,
}

/// A block or a wire.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockGraphNode {
    /// An integration block.
    Block(Box<Block>),
    /// A value that passes a module's border.
    Wire(Expression<BlockValueSource>),
}

/// An integration block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// As `module.block`.
    pub name: String,
    /// Names that it had before, as `module.block`, the latest first.
    pub former_names: Vec<String>,
    /// Its line.
    pub line: u32,
    /// The integration's queue, without environment and ending.
    pub queue: String,
    /// What the integration is to do.
    pub task_type: String,
    /// What becomes its params: a mapping.
    pub args: Expression<BlockValueSource>,
    /// What it waits for beside what its args refer to.
    pub listed_sources: Vec<BlockValueSource>,
    /// The outputs that others may refer to.
    pub outputs: Vec<String>,
    /// Whether its last success may be served again.
    pub cache: bool,
    /// How long it may take; the service's setting if nothing is said.
    pub timeout: Option<Duration>,
    /// What its author calls the integration's version; part of the cache's key.
    pub version: Option<String>,
}

/// What a resolved reference leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlockValueSource {
    /// An input of the run.
    Input(String),
    /// An output of the block at this place.
    Output(usize, String),
    /// The wire at this place.
    Wire(usize),
}

impl BlockValueSource {
    /// The node that must be done before.
    pub fn node_index(&self) -> Option<usize> {
        match self {
            BlockValueSource::Input(_) => None,
            BlockValueSource::Output(node, _) | BlockValueSource::Wire(node) => Some(*node),
        }
    }
}

impl BlockGraphNode {
    /// The nodes it waits for, each once, in ascending order.
    pub fn dependencies(&self) -> Vec<usize> {
        let mut found = Vec::new();
        match self {
            BlockGraphNode::Wire(value) => value.collect_references(&mut found),
            BlockGraphNode::Block(block) => {
                block.args.collect_references(&mut found);
                found.extend(&block.listed_sources);
            }
        }
        let mut needs: Vec<usize> =
            found.into_iter().filter_map(BlockValueSource::node_index).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }
}

impl Block {
    /// `queue.task_type`.
    pub fn integration_name(&self) -> String {
        format!("{}.{}", self.queue, self.task_type)
    }

    /// What must be unchanged for the last success to be served again: block, inputs, version.
    pub fn params_fingerprint(&self, params: &str) -> String {
        let content =
            json!([self.queue, self.task_type, self.version, self.outputs, params]).to_string();
        let digest = Sha256::digest(content.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl BlockGraph {
    /// The blocks with their places.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, &Block)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| match node {
            BlockGraphNode::Block(block) => Some((index, block.as_ref())),
            BlockGraphNode::Wire(_) => None,
        })
    }

    /// The values of the inputs, or what is wrong: (field, reason).
    pub fn resolve_inputs(
        &self,
        general: &Map<String, Json>,
        env: &Map<String, Json>,
    ) -> Result<Map<String, Json>, (String, String)> {
        let known = || {
            self.inputs
                .iter()
                .filter(|input| input.scope == RunInputScope::General)
                .map(|input| input.name.as_str())
        };
        let names: HashSet<&str> = known().collect();
        // Those of the environment may serve several templates; a general one that nobody knows is a mistake.
        if let Some(unknown) = general.keys().find(|name| !names.contains(name.as_str())) {
            let near = reconcile::suggest_name(unknown, known());
            let reason = format!(
                "the template has no such general input{near} (it has {})",
                reconcile::list_names(known())
            );
            return Err((format!("general_inputs.{unknown}"), reason));
        }
        let mut values = Map::new();
        for input in &self.inputs {
            let (given_values, field) = match input.scope {
                RunInputScope::General => (general, "general_inputs"),
                RunInputScope::Env => (env, "env_inputs"),
            };
            let value = given_values.get(&input.name).or(input.default.as_ref()).cloned();
            if value.is_none() && input.required {
                return Err((
                    format!("{field}.{}", input.name),
                    "is required by the template".to_owned(),
                ));
            }
            values.insert(input.name.clone(), value.unwrap_or(Json::Null));
        }
        Ok(values)
    }
}
