//! Planning of a run from its template and the stored blocks. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::renamed::plan_block_moves;
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
    pub block_id: i64,
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
    let index_of = |stored: &StoredBlock| {
        kept_indices.get(&(stored.name.as_str(), stored.integration.clone())).copied()
    };
    let gone: Vec<&StoredBlock> =
        stored.iter().filter(|stored| !stored.orphaned && index_of(stored).is_none()).collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let step = |n: usize| graph.nodes.len() + n;
    // The dependents of each block at its last success, as steps of this run.
    let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut unknown_users = Vec::new();
    let steps_gone = gone.iter().enumerate().map(|(n, stored)| (step(n), *stored));
    let steps_kept = stored.iter().filter_map(|stored| Some((index_of(stored)?, stored)));
    for (step_index, stored) in steps_gone.chain(steps_kept) {
        match &stored.depends_on {
            Some(names) => {
                names.iter().for_each(|name| users.entry(name).or_default().push(step_index))
            }
            None => unknown_users.push((step_index, stored.block_id)),
        }
    }
    let after = |(n, stored): (usize, &&StoredBlock)| {
        let mut after: BTreeSet<usize> =
            users.get(stored.name.as_str()).into_iter().flatten().copied().collect();
        // A block with unknown dependencies may use any other. It comes first if it is kept; of two
        // deletions, the later success comes first.
        let unknown = unknown_users
            .iter()
            .filter(|(at, id)| *at < graph.nodes.len() || *id > stored.block_id);
        after.extend(unknown.map(|(at, _)| *at));
        after.extend(by_name.get(stored.name.as_str()));
        after.remove(&step(n));
        BlockDeletion {
            name: stored.name.clone(),
            integration: stored.integration.clone(),
            after_steps: after.into_iter().collect(),
        }
    };
    let mut deletions: Vec<BlockDeletion> = gone.iter().enumerate().map(after).collect();
    if has_cycle(&deletions, graph.nodes.len()) {
        chain_deletions(&mut deletions, &gone, graph.nodes.len());
    }
    deletions
}

/// Dependencies that were stored by different runs may contradict each other.
fn has_cycle(deletions: &[BlockDeletion], first_step: usize) -> bool {
    let among = |deletion: &BlockDeletion| -> Vec<usize> {
        deletion
            .after_steps
            .iter()
            .filter(|at| **at >= first_step)
            .map(|at| at - first_step)
            .collect()
    };
    let needs: Vec<Vec<usize>> = deletions.iter().map(among).collect();
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
    let stored = stored.as_slice();
    let by_key: HashMap<(&str, &str), &StoredBlock> = stored
        .iter()
        .map(|stored| ((stored.name.as_str(), stored.integration.as_str()), stored))
        .collect();
    // The states of blocks that are certainly cache hits.
    let mut known: HashMap<usize, &Map<String, Json>> = HashMap::new();
    let mut cached: HashMap<usize, bool> = HashMap::new();
    for index in topological_order(graph) {
        let BlockGraphNode::Block(block) = &graph.nodes[index] else { continue };
        let integration = block.integration_name();
        let stored = by_key.get(&(block.name.as_str(), integration.as_str()));
        let Some(stored) = stored.filter(|stored| block.cache && !stored.orphaned) else {
            continue;
        };
        let certain = has_known_sources(graph, index, &known);
        let state = |index: usize| known.get(&index).copied();
        let params = EvaluationContext { graph, inputs, state: &state }.evaluate(&block.args);
        let same = params
            .is_ok_and(|params| block.params_fingerprint(&params.to_string()) == stored.digest);
        if certain && same {
            known.insert(index, stored.state.as_ref());
            cached.insert(index, true);
        } else if !certain {
            cached.insert(index, false);
        }
    }
    let block = |(index, block): (usize, &crate::template::Block)| {
        let integration = block.integration_name();
        let is_stored = by_key.contains_key(&(block.name.as_str(), integration.as_str()));
        let action = if is_stored { BlockAction::Update } else { BlockAction::Create };
        let certain = cached.get(&index).copied();
        BlockForecast {
            name: block.name.clone(),
            integration,
            action: (certain != Some(true)).then_some(action),
            may_be_cached: certain == Some(false),
        }
    };
    let deletion = |deletion: BlockDeletion| BlockForecast {
        name: deletion.name,
        integration: deletion.integration,
        action: Some(BlockAction::Delete),
        may_be_cached: false,
    };
    graph
        .blocks()
        .map(block)
        .chain(plan_deletions(graph, stored).into_iter().map(deletion))
        .collect()
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
