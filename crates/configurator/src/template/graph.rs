//! The graph of a template: integration blocks, wires between modules, and their dependencies.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::Expression;

/// A validated and resolved template; acyclic.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockGraph {
    /// Declared inputs of a run.
    pub inputs: Vec<RunInput>,
    /// Blocks and wires. A node's index is its ordinal in the database.
    pub nodes: Vec<BlockGraphNode>,
    /// Outputs of the template, shown by the export.
    pub outputs: Vec<(String, Expression<BlockValueSource>)>,
}

/// A declared input of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInput {
    /// Name of the input.
    pub name: String,
    /// The object of the request that has the value.
    pub scope: RunInputScope,
    /// Whether a run without it is refused.
    pub required: bool,
    /// The value if the request has none.
    pub default: Option<Json>,
}

/// The object of a request that has an input's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunInputScope {
    /// In `general_inputs`, which may name only declared inputs.
    General,
    /// In `env_inputs`, which may name others, too.
    Env,
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockGraphNode {
    /// A block of an integration.
    Block(Box<Block>),
    /// A value that crosses a module boundary.
    Wire(Expression<BlockValueSource>),
}

/// A block of an integration.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Full name, as `module.block`.
    pub name: String,
    /// Former names, as `module.block`, the latest first.
    pub former_names: Vec<String>,
    /// Line in the template, from 1.
    pub line: u32,
    /// The integration's queue, without environment and suffix.
    pub queue: String,
    /// The part of `integration` after the dot.
    pub task_type: String,
    /// The expression of its params: a mapping.
    pub args: Expression<BlockValueSource>,
    /// The references listed in `inputs`: dependencies in addition to those of the args.
    pub listed_sources: Vec<BlockValueSource>,
    /// Names of the outputs that other blocks may refer to.
    pub outputs: Vec<String>,
    /// Whether a cache hit is allowed.
    pub cache: bool,
    /// Timeout of an answer; `None` for the service's setting.
    pub timeout: Option<Duration>,
    /// The integration's version according to the template; part of the cache key.
    pub version: Option<String>,
}

/// The target of a resolved reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlockValueSource {
    /// The input of the run with this name.
    Input(String),
    /// The output of the block at this node index.
    Output(usize, String),
    /// The wire at this node index.
    Wire(usize),
}

impl BlockValueSource {
    /// The node that must end before, if any.
    pub fn node_index(&self) -> Option<usize> {
        match self {
            BlockValueSource::Input(_) => None,
            BlockValueSource::Output(node, _) | BlockValueSource::Wire(node) => Some(*node),
        }
    }
}

impl BlockGraphNode {
    /// The indices of its dependencies, ascending and without duplicates.
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
    /// `queue.task_type` of the integration.
    pub fn integration_name(&self) -> String {
        format!("{}.{}", self.queue, self.task_type)
    }

    /// The cache key, as SHA-256 in hexadecimal: integration, version, outputs and params.
    pub fn params_fingerprint(&self, params: &str) -> String {
        let content =
            json!([self.queue, self.task_type, self.version, self.outputs, params]).to_string();
        hex::encode(Sha256::digest(content.as_bytes()))
    }
}

impl BlockGraph {
    /// The blocks with their node indices.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, &Block)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| match node {
            BlockGraphNode::Block(block) => Some((index, block.as_ref())),
            BlockGraphNode::Wire(_) => None,
        })
    }

    fn general_input_names(&self) -> impl Iterator<Item = &str> {
        let general = self.inputs.iter().filter(|input| input.scope == RunInputScope::General);
        general.map(|input| input.name.as_str())
    }

    /// The values of all inputs, or the invalid field and the reason.
    pub fn resolve_inputs(
        &self,
        general: &Map<String, Json>,
        env: &Map<String, Json>,
    ) -> Result<Map<String, Json>, (String, String)> {
        let known: Vec<&str> = self.general_input_names().collect();
        let names: HashSet<&str> = known.iter().copied().collect();
        // Inputs of an environment may serve several templates; an unknown general
        // input is a mistake.
        if let Some(unknown) = general.keys().find(|name| !names.contains(name.as_str())) {
            let near = yaml::suggest_name(unknown, known.iter().copied());
            let reason = format!(
                "the template has no such general input{near} (it has {})",
                yaml::list_names(known)
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
