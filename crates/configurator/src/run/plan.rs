//! Planning of a run from its template and the stored blocks. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::renamed::plan_block_moves;
use crate::ids::BlockId;
use crate::protocol::BlockAction;
use crate::template::{BlockGraph, BlockGraphNode, EvaluationContext};

/// Maximum names of dependencies stored per block; with more, the dependencies count as unknown.
pub(super) const MAX_BLOCK_DEPENDENCIES: usize = 1000;

/// The last success of a block, as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBlock {
    /// Name of the block, as `module.block`.
    pub name: String,
    /// `queue.task_type` of the integration.
    pub integration: String,
    /// The `block_id` of the answered message.
    pub block_id: BlockId,
    /// The sent params, as the text of a JSON object.
    pub params: String,
    /// The state that the integration returned.
    pub state: Arc<Map<String, Json>>,
    /// Fingerprint of the params, see
    /// [`Block::params_fingerprint`](crate::template::Block::params_fingerprint).
    pub digest: String,
    /// Names of the blocks whose outputs it uses; `None` if unknown.
    pub depends_on: Option<Vec<String>>,
    /// Whether its integration refused to delete it.
    pub orphaned: bool,
}

/// The deletion of a block that was removed from the template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BlockDeletion {
    pub(super) name: String,
    pub(super) integration: String,
    /// Steps that must end before this one.
    pub(super) after_steps: Vec<usize>,
}

/// The forecast for one block of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockForecast {
    /// Name of the block, as `module.block`.
    pub name: String,
    /// `queue.task_type` of the integration.
    pub integration: String,
    /// The action to send; `None` for a cache hit.
    pub action: Option<BlockAction>,
    /// Whether a cache hit is possible, but depends on outputs that are not known yet.
    pub may_be_cached: bool,
}

/// The deletions of a run. Their steps follow those of the graph's nodes.
pub(super) fn plan_deletions(graph: &BlockGraph, stored: &[StoredBlock]) -> Vec<BlockDeletion> {
    let kept_indices: HashMap<(&str, String), usize> = graph
        .blocks()
        .map(|(index, block)| ((block.name.as_str(), block.integration_name()), index))
        .collect();
    let by_name: HashMap<&str, usize> =
        graph.blocks().map(|(index, block)| (block.name.as_str(), index)).collect();
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for stored in stored {
        let key = (stored.name.as_str(), stored.integration.clone());
        match kept_indices.get(&key) {
            Some(index) => kept.push((*index, stored)),
            None if stored.orphaned => {}
            None => gone.push(stored),
        }
    }
    if gone.is_empty() {
        return Vec::new();
    }
    let first_step = graph.nodes.len();
    let mut dependents = StoredDependents::default();
    for (n, stored) in gone.iter().enumerate() {
        dependents.add_step(first_step + n, stored);
    }
    for (index, stored) in kept {
        dependents.add_step(index, stored);
    }
    let mut deletions = Vec::new();
    for (n, stored) in gone.iter().enumerate() {
        let mut after_steps = dependents.find_steps(stored, first_step);
        after_steps.extend(by_name.get(stored.name.as_str()));
        after_steps.remove(&(first_step + n));
        deletions.push(BlockDeletion {
            name: stored.name.clone(),
            integration: stored.integration.clone(),
            after_steps: after_steps.into_iter().collect(),
        });
    }
    if has_cycle(&deletions, first_step) {
        chain_deletions(&mut deletions, &gone, first_step);
    }
    deletions
}

/// The dependents of each block at its last success, as steps of this run.
#[derive(Default)]
struct StoredDependents<'s> {
    by_name: HashMap<&'s str, Vec<usize>>,
    /// Steps of blocks with unknown dependencies, and the `block_id`s of their successes.
    unknown: Vec<(usize, BlockId)>,
}

impl<'s> StoredDependents<'s> {
    fn add_step(&mut self, step: usize, stored: &'s StoredBlock) {
        let Some(names) = &stored.depends_on else {
            self.unknown.push((step, stored.block_id));
            return;
        };
        for name in names {
            self.by_name.entry(name).or_default().push(step);
        }
    }

    /// The steps that may depend on the block. One with unknown dependencies may use any other: it
    /// comes first if it is kept; of two deletions, the later success comes first.
    fn find_steps(&self, stored: &StoredBlock, first_deletion: usize) -> BTreeSet<usize> {
        let mut steps = BTreeSet::new();
        steps.extend(self.by_name.get(stored.name.as_str()).into_iter().flatten());
        for (step, block_id) in &self.unknown {
            if *step < first_deletion || *block_id > stored.block_id {
                steps.insert(*step);
            }
        }
        steps
    }
}

/// Dependencies that were stored by different runs may contradict each other.
fn has_cycle(deletions: &[BlockDeletion], first_step: usize) -> bool {
    let mut needs: Vec<Vec<usize>> = Vec::new();
    for deletion in deletions {
        let deletion_steps = deletion.after_steps.iter().filter(|step| **step >= first_step);
        needs.push(deletion_steps.map(|step| step - first_step).collect());
    }
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (n, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|need| needed_by[*need].push(n));
    }
    let mut ready: Vec<usize> = (0..needs.len()).filter(|n| waiting[*n] == 0).collect();
    let mut done = 0;
    while let Some(n) = ready.pop() {
        done += 1;
        for next in &needed_by[n] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    done < needs.len()
}

/// Breaks the cycle: one deletion after another, the latest success first.
fn chain_deletions(deletions: &mut [BlockDeletion], gone: &[&StoredBlock], first_step: usize) {
    let mut order: Vec<usize> = (0..deletions.len()).collect();
    order.sort_by_key(|n| std::cmp::Reverse(gone[*n].block_id));
    let mut before = None;
    for n in order {
        deletions[n].after_steps.retain(|at| *at < first_step);
        deletions[n].after_steps.extend(before);
        before = Some(first_step + n);
    }
}

/// The names of the blocks whose outputs the node at `index` uses, also through wires; `None` if
/// there are too many.
pub(super) fn block_dependencies(graph: &BlockGraph, index: usize) -> Option<Vec<String>> {
    let mut names = BTreeSet::new();
    let (mut seen, mut to_visit) = (HashSet::new(), graph.nodes[index].dependencies());
    while let Some(index) = to_visit.pop() {
        if !seen.insert(index) {
            continue;
        }
        match &graph.nodes[index] {
            BlockGraphNode::Block(block) => drop(names.insert(block.name.clone())),
            wire @ BlockGraphNode::Wire(_) => to_visit.extend(wire.dependencies()),
        }
        if seen.len() > 4 * MAX_BLOCK_DEPENDENCIES || names.len() > MAX_BLOCK_DEPENDENCIES {
            return None;
        }
    }
    Some(names.into_iter().collect())
}

/// The forecast for every block in the order of the template, then for the deletions.
pub fn forecast_blocks(
    graph: &BlockGraph,
    stored: Vec<StoredBlock>,
    inputs: &Map<String, Json>,
) -> Vec<BlockForecast> {
    let (stored, _) = plan_block_moves(graph, stored);
    let by_key: HashMap<(&str, &str), &StoredBlock> = stored
        .iter()
        .map(|stored| ((stored.name.as_str(), stored.integration.as_str()), stored))
        .collect();
    let cached = forecast_cache_hits(graph, &by_key, inputs);
    let mut forecasts = Vec::new();
    for (index, block) in graph.blocks() {
        let integration = block.integration_name();
        let is_stored = by_key.contains_key(&(block.name.as_str(), integration.as_str()));
        let action = if is_stored { BlockAction::Update } else { BlockAction::Create };
        let certain = cached.get(&index).copied();
        forecasts.push(BlockForecast {
            name: block.name.clone(),
            integration,
            action: (certain != Some(true)).then_some(action),
            may_be_cached: certain == Some(false),
        });
    }
    for deletion in plan_deletions(graph, &stored) {
        forecasts.push(BlockForecast {
            name: deletion.name,
            integration: deletion.integration,
            action: Some(BlockAction::Delete),
            may_be_cached: false,
        });
    }
    forecasts
}

/// For each block that may be a cache hit, by node index: whether that is certain.
fn forecast_cache_hits(
    graph: &BlockGraph,
    stored_by_key: &HashMap<(&str, &str), &StoredBlock>,
    inputs: &Map<String, Json>,
) -> HashMap<usize, bool> {
    // The states of blocks that are certainly cache hits.
    let mut known: HashMap<usize, &Map<String, Json>> = HashMap::new();
    let mut cached: HashMap<usize, bool> = HashMap::new();
    for index in topological_order(graph) {
        let BlockGraphNode::Block(block) = &graph.nodes[index] else { continue };
        let integration = block.integration_name();
        let stored = stored_by_key.get(&(block.name.as_str(), integration.as_str()));
        let Some(stored) = stored.filter(|stored| block.cache && !stored.orphaned) else {
            continue;
        };
        let certain = has_known_sources(graph, index, &known);
        let context =
            EvaluationContext { graph, inputs, state: &|index: usize| known.get(&index).copied() };
        let params = context.evaluate(&block.args);
        let same = params
            .is_ok_and(|params| block.params_fingerprint(&params.to_string()) == stored.digest);
        if certain && same {
            known.insert(index, stored.state.as_ref());
            cached.insert(index, true);
        } else if !certain {
            cached.insert(index, false);
        }
    }
    cached
}

fn has_known_sources(
    graph: &BlockGraph,
    index: usize,
    known: &HashMap<usize, &Map<String, Json>>,
) -> bool {
    let (mut seen, mut to_visit) = (HashSet::new(), graph.nodes[index].dependencies());
    while let Some(index) = to_visit.pop() {
        if seen.insert(index) {
            match &graph.nodes[index] {
                BlockGraphNode::Block(_) if known.contains_key(&index) => {}
                BlockGraphNode::Block(_) => return false,
                wire @ BlockGraphNode::Wire(_) => to_visit.extend(wire.dependencies()),
            }
        }
    }
    true
}

/// Node indices in topological order: dependencies first.
pub(super) fn topological_order(graph: &BlockGraph) -> Vec<usize> {
    let needs: Vec<Vec<usize>> = graph.nodes.iter().map(BlockGraphNode::dependencies).collect();
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (n, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|need| needed_by[*need].push(n));
    }
    let mut order: Vec<usize> = (0..needs.len()).filter(|n| waiting[*n] == 0).collect();
    let mut position = 0;
    while position < order.len() {
        let index = order[position];
        position += 1;
        for next in &needed_by[index] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                order.push(*next);
            }
        }
    }
    order
}
