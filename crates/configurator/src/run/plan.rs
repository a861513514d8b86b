//! From a template and what is stored to what a run does: pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::renamed::renamed;
use crate::protocol::Action;
use crate::template::{Graph, Node, Values};

/// Names of blocks that one depends on, at most; beyond, they count as unknown.
pub(super) const MOST_DEPENDENCIES: usize = 1000;

/// What is stored of a block: its last success.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The block.
    pub name: String,
    /// `queue.task_type`.
    pub integration: String,
    /// The message that it answered.
    pub block_id: i64,
    /// JSON.
    pub params: String,
    /// What the integration returned.
    pub state: Arc<Map<String, Json>>,
    /// What it was a success of.
    pub digest: String,
    /// The blocks whose outputs it uses; `None`: not known.
    pub depends_on: Option<Vec<String>>,
    /// Its integration refused to delete it.
    pub orphaned: bool,
}

/// A block that has gone from the template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deletion {
    pub(super) name: String,
    pub(super) integration: String,
    /// Steps that come before it.
    pub(super) after: Vec<usize>,
}

/// What a block of a template would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// The block.
    pub name: String,
    /// `queue.task_type`.
    pub integration: String,
    /// The action; `None`: served from the cache.
    pub action: Option<Action>,
    /// The cache may serve it instead: that depends on outputs that are not known yet.
    pub may_be_cached: bool,
}

/// The deletions of a run, after the steps that are the graph's nodes.
pub(super) fn deletions(graph: &Graph, stored: &[Stored]) -> Vec<Deletion> {
    let kept: HashMap<(&str, String), usize> =
        graph.blocks().map(|(place, block)| ((block.name.as_str(), block.integration()), place)).collect();
    let by_name: HashMap<&str, usize> =
        graph.blocks().map(|(place, block)| (block.name.as_str(), place)).collect();
    let place_of = |stored: &Stored| kept.get(&(stored.name.as_str(), stored.integration.clone())).copied();
    let gone: Vec<&Stored> =
        stored.iter().filter(|stored| !stored.orphaned && place_of(stored).is_none()).collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let step = |n: usize| graph.nodes.len() + n;
    // Who used whom when it last succeeded, as steps of this run.
    let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut of_everything = Vec::new();
    let steps_gone = gone.iter().enumerate().map(|(n, stored)| (step(n), *stored));
    let steps_kept = stored.iter().filter_map(|stored| Some((place_of(stored)?, stored)));
    for (at, stored) in steps_gone.chain(steps_kept) {
        match &stored.depends_on {
            Some(names) => names.iter().for_each(|name| users.entry(name).or_default().push(at)),
            None => of_everything.push((at, stored.block_id)),
        }
    }
    let after = |(n, stored): (usize, &&Stored)| {
        let mut after: BTreeSet<usize> =
            users.get(stored.name.as_str()).into_iter().flatten().copied().collect();
        // Of two that may use each other the later one goes first.
        let unknown =
            of_everything.iter().filter(|(at, id)| *at < graph.nodes.len() || *id > stored.block_id);
        after.extend(unknown.map(|(at, _)| *at));
        after.extend(by_name.get(stored.name.as_str()));
        after.remove(&step(n));
        Deletion {
            name: stored.name.clone(),
            integration: stored.integration.clone(),
            after: after.into_iter().collect(),
        }
    };
    let mut deletions: Vec<Deletion> = gone.iter().enumerate().map(after).collect();
    if has_cycle(&deletions, graph.nodes.len()) {
        one_after_another(&mut deletions, &gone, graph.nodes.len());
    }
    deletions
}

/// What was stored in different runs may not fit together.
fn has_cycle(deletions: &[Deletion], first: usize) -> bool {
    let among = |deletion: &Deletion| -> Vec<usize> {
        deletion.after.iter().filter(|at| **at >= first).map(|at| at - first).collect()
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

/// The latest success first.
fn one_after_another(deletions: &mut [Deletion], gone: &[&Stored], first: usize) {
    let mut order: Vec<usize> = (0..deletions.len()).collect();
    order.sort_by_key(|n| std::cmp::Reverse(gone[*n].block_id));
    let mut before = None;
    for n in order {
        deletions[n].after.retain(|at| *at < first);
        deletions[n].after.extend(before);
        before = Some(first + n);
    }
}

/// The names of the blocks whose outputs the node at `place` uses; `None` if there are too many.
pub(super) fn dependencies(graph: &Graph, place: usize) -> Option<Vec<String>> {
    let mut names = BTreeSet::new();
    let (mut seen, mut to_see) = (HashSet::new(), graph.nodes[place].needs());
    while let Some(place) = to_see.pop() {
        if !seen.insert(place) {
            continue;
        }
        match &graph.nodes[place] {
            Node::Block(block) => drop(names.insert(block.name.clone())),
            wire @ Node::Wire(_) => to_see.extend(wire.needs()),
        }
        if seen.len() > 4 * MOST_DEPENDENCIES || names.len() > MOST_DEPENDENCIES {
            return None;
        }
    }
    Some(names.into_iter().collect())
}

/// What every block would get from a run, in the order of the template; deletions last.
pub fn forecast(graph: &Graph, stored: Vec<Stored>, inputs: &Map<String, Json>) -> Vec<Forecast> {
    let (stored, _) = renamed(graph, stored);
    let stored = stored.as_slice();
    let by_key: HashMap<(&str, &str), &Stored> =
        stored.iter().map(|stored| ((stored.name.as_str(), stored.integration.as_str()), stored)).collect();
    // The states of blocks that the cache serves for certain.
    let mut known: HashMap<usize, &Map<String, Json>> = HashMap::new();
    let mut cached: HashMap<usize, bool> = HashMap::new();
    for place in in_order(graph) {
        let Node::Block(block) = &graph.nodes[place] else { continue };
        let integration = block.integration();
        let stored = by_key.get(&(block.name.as_str(), integration.as_str()));
        let Some(stored) = stored.filter(|stored| block.cache && !stored.orphaned) else { continue };
        let certain = sources_known(graph, place, &known);
        let state = |place: usize| known.get(&place).copied();
        let params = Values { graph, inputs, state: &state }.of(&block.args);
        let same = params.is_ok_and(|params| block.digest(&params.to_string()) == stored.digest);
        if certain && same {
            known.insert(place, stored.state.as_ref());
            cached.insert(place, true);
        } else if !certain {
            cached.insert(place, false);
        }
    }
    let block = |(place, block): (usize, &crate::template::Block)| {
        let integration = block.integration();
        let there = by_key.contains_key(&(block.name.as_str(), integration.as_str()));
        let action = if there { Action::Update } else { Action::Create };
        let certain = cached.get(&place).copied();
        Forecast {
            name: block.name.clone(),
            integration,
            action: (certain != Some(true)).then_some(action),
            may_be_cached: certain == Some(false),
        }
    };
    let deletion = |deletion: Deletion| Forecast {
        name: deletion.name,
        integration: deletion.integration,
        action: Some(Action::Delete),
        may_be_cached: false,
    };
    graph.blocks().map(block).chain(deletions(graph, stored).into_iter().map(deletion)).collect()
}

fn sources_known(graph: &Graph, place: usize, known: &HashMap<usize, &Map<String, Json>>) -> bool {
    let (mut seen, mut to_see) = (HashSet::new(), graph.nodes[place].needs());
    while let Some(place) = to_see.pop() {
        if seen.insert(place) {
            match &graph.nodes[place] {
                Node::Block(_) if known.contains_key(&place) => {}
                Node::Block(_) => return false,
                wire @ Node::Wire(_) => to_see.extend(wire.needs()),
            }
        }
    }
    true
}

/// Places such that each comes after what it needs.
pub(super) fn in_order(graph: &Graph) -> Vec<usize> {
    let needs: Vec<Vec<usize>> = graph.nodes.iter().map(Node::needs).collect();
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (n, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|need| needed_by[*need].push(n));
    }
    let mut order: Vec<usize> = (0..needs.len()).filter(|n| waiting[*n] == 0).collect();
    let mut at = 0;
    while at < order.len() {
        let place = order[at];
        at += 1;
        for next in &needed_by[place] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                order.push(*next);
            }
        }
    }
    order
}
