//! Blocks whose name has changed since their last success. With `renamed_from`, the stored block
//! moves to the new name. Without it, the deletion of the old block precedes blocks that may be
//! about the same object. Pure except for [`move_stored_blocks`].

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value as Json};
use sqlx::PgConnection;

use super::plan::{BlockDeletion, StoredBlock, topological_order};
use crate::ids::InstanceId;
use crate::template::{Block, BlockGraph, BlockGraphNode, EvaluationContext, Expression};

/// Maximum ordered pairs of a deletion and a block, for identical and for similar objects
/// each. Beyond it, a block waits for only one of the identical deletions, and similar objects
/// are no longer searched.
const MAX_ORDERED_PAIRS: usize = 100_000;

/// The move of a stored block from a former name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockMove {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) integration: String,
}

/// The moves that the template requests, and the stored blocks after them.
pub(super) fn plan_block_moves(
    graph: &BlockGraph,
    mut stored: Vec<StoredBlock>,
) -> (Vec<StoredBlock>, Vec<BlockMove>) {
    let current_blocks: HashSet<(&str, String)> =
        graph.blocks().map(|(_, block)| (block.name.as_str(), block.integration_name())).collect();
    let mut positions: HashMap<(String, String), usize> = HashMap::new();
    for (n, stored) in stored.iter().enumerate() {
        positions.insert((stored.name.clone(), stored.integration.clone()), n);
    }
    let mut moves = Vec::new();
    for (_, block) in graph.blocks().filter(|(_, block)| !block.former_names.is_empty()) {
        let integration = block.integration_name();
        if positions.contains_key(&(block.name.clone(), integration.clone())) {
            continue;
        }
        for former in &block.former_names {
            if current_blocks.contains(&(former.as_str(), integration.clone())) {
                continue;
            }
            if let Some(n) = positions.remove(&(former.clone(), integration.clone())) {
                stored[n].name.clone_from(&block.name);
                let (from, to) = (former.clone(), block.name.clone());
                moves.push(BlockMove { from, to, integration });
                break;
            }
        }
    }
    let names: HashMap<&str, &str> =
        moves.iter().map(|moved| (moved.from.as_str(), moved.to.as_str())).collect();
    for name in stored.iter_mut().filter_map(|stored| stored.depends_on.as_mut()).flatten() {
        if let Some(new) = names.get(name.as_str()) {
            *name = (*new).to_owned();
        }
    }
    (stored, moves)
}

/// Applies the moves in two statements. A tombstone under the former name makes late answers
/// to its messages ineffective.
pub(super) async fn move_stored_blocks(
    connection: &mut PgConnection,
    instance_id: InstanceId,
    moves: &[BlockMove],
) -> store::Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let (mut former_names, mut names, mut integrations) = (Vec::new(), Vec::new(), Vec::new());
    for moved in moves {
        former_names.push(moved.from.as_str());
        names.push(moved.to.as_str());
        integrations.push(moved.integration.as_str());
    }
    for (statement_name, sql) in [("move_stored", MOVE_STORED_SQL), ("move_uses", MOVE_USES_SQL)] {
        store::statement(statement_name, sql)
            .bind(instance_id)
            .bind(&former_names)
            .bind(&names)
            .bind(&integrations)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// JSON text that is independent of the order of members.
fn canonical_json(value: &Json) -> String {
    fn sort_members(value: &Json) -> Json {
        match value {
            Json::Object(map) => {
                let sorted: BTreeMap<&String, Json> =
                    map.iter().map(|(key, value)| (key, sort_members(value))).collect();
                sorted.into_iter().map(|(key, value)| (key.clone(), value)).collect()
            }
            Json::Array(items) => items.iter().map(sort_members).collect(),
            value => value.clone(),
        }
    }
    sort_members(value).to_string()
}

/// A lookup key, unique per integration.
fn integration_key(integration: &str, what: &str, value: &str) -> String {
    format!("{integration}\n{what}\n{value}")
}

/// The params that are known before any answer, and whether they are complete.
fn known_block_params(block: &Block, values: &EvaluationContext<'_>) -> (Map<String, Json>, bool) {
    if let Ok(Json::Object(all)) = values.evaluate(&block.args) {
        return (all, true);
    }
    let Expression::Map(entries) = &block.args else { return (Map::new(), false) };
    let mut known = Map::new();
    for (key, value) in entries {
        if let Ok(value) = values.evaluate(value) {
            known.insert(key.clone(), value);
        }
    }
    (known, false)
}

/// Whether a param may identify an object for its integration.
fn can_identify(value: &Json) -> bool {
    matches!(value, Json::String(_) | Json::Number(_))
}

/// Keys of the params that may identify an object for its integration: strings and numbers.
fn identifying_keys(integration: &str, params: &Map<String, Json>) -> Vec<String> {
    let members = params.iter().filter(|(_, value)| can_identify(value));
    members.map(|(key, value)| integration_key(integration, key, &value.to_string())).collect()
}

/// Deletions by params, state and identifying keys.
#[derive(Default)]
struct DeletionIndex {
    by_params: HashMap<String, Vec<usize>>,
    by_state: HashMap<String, Vec<usize>>,
    by_identifying_key: HashMap<String, Vec<usize>>,
}

impl DeletionIndex {
    fn from_deletions(
        deletions: &[BlockDeletion],
        stored: &HashMap<(&str, &str), &StoredBlock>,
    ) -> Self {
        let mut gone = Self::default();
        for (n, deletion) in deletions.iter().enumerate() {
            let integration = deletion.integration.as_str();
            let Some(stored) = stored.get(&(deletion.name.as_str(), integration)) else { continue };
            let Ok(Json::Object(params)) = stored.params.parse() else { continue };
            for mark in identifying_keys(integration, &params) {
                gone.by_identifying_key.entry(mark).or_default().push(n);
            }
            let params = integration_key(integration, "", &canonical_json(&Json::Object(params)));
            gone.by_params.entry(params).or_default().push(n);
            if !stored.state.is_empty() {
                gone.by_state.entry(stored_state_key(integration, stored)).or_default().push(n);
            }
        }
        gone
    }
}

impl DeletionIndex {
    /// Deletions of similar objects: with the same state as the stored block, or with a common
    /// identifying key if the block is not stored.
    fn find_similar(
        &self,
        integration: &str,
        params: &Map<String, Json>,
        own: Option<&StoredBlock>,
    ) -> Vec<usize> {
        let mut like: Vec<usize> = match own {
            Some(own) => {
                self.by_state.get(&stored_state_key(integration, own)).cloned().unwrap_or_default()
            }
            None => {
                let mut like = Vec::new();
                for mark in identifying_keys(integration, params) {
                    like.extend(self.by_identifying_key.get(&mark).into_iter().flatten());
                }
                like
            }
        };
        like.sort_unstable();
        like.dedup();
        like
    }
}

fn stored_state_key(integration: &str, stored: &StoredBlock) -> String {
    integration_key(integration, "", &canonical_json(&Json::Object(stored.state.as_ref().clone())))
}

/// The order between a template's blocks and the deletions of the same integrations.
pub(super) struct DeletionPrecedence {
    /// For each node, the indices of the deletions that precede it.
    pub(super) deletions_first: Vec<Vec<usize>>,
    /// Strings and numbers of a block's params that are known before anything is sent, as JSON.
    pub(super) foreseen_params: Vec<Option<String>>,
}

/// Maximum size of such JSON; larger ones are not stored.
const MAX_FORESEEN_BYTES: usize = 4096;

/// Orders deletions before blocks about the same object. A block with identical params is the same
/// object under a new name: the deletion does not wait for dependents of that block. A block that
/// is only similar waits for the deletion unless that makes a cycle.
pub(super) fn plan_deletion_precedence(
    graph: &BlockGraph,
    stored: &[StoredBlock],
    deletions: &mut [BlockDeletion],
    inputs: &Map<String, Json>,
) -> DeletionPrecedence {
    let mut precedence = DeletionPrecedence {
        deletions_first: vec![Vec::new(); graph.nodes.len()],
        foreseen_params: vec![None; graph.nodes.len()],
    };
    if deletions.is_empty() {
        return precedence;
    }
    let by_key: HashMap<(&str, &str), &StoredBlock> = stored
        .iter()
        .map(|stored| ((stored.name.as_str(), stored.integration.as_str()), stored))
        .collect();
    let deletion_index = DeletionIndex::from_deletions(deletions, &by_key);
    let concerned: HashSet<String> =
        deletions.iter().map(|deletion| deletion.integration.clone()).collect();
    let mut states: HashMap<usize, &Map<String, Json>> = HashMap::new();
    let mut similar: Vec<(usize, Vec<usize>)> = Vec::new();
    let (mut similar_pairs, mut same_pairs) = (0, 0);
    for index in topological_order(graph) {
        let BlockGraphNode::Block(block) = &graph.nodes[index] else { continue };
        let integration = block.integration_name();
        let own = by_key.get(&(block.name.as_str(), integration.as_str())).copied();
        states.extend(own.map(|own| (index, own.state.as_ref())));
        if !concerned.contains(&integration) {
            continue;
        }
        let context =
            EvaluationContext { graph, inputs, state: &|index: usize| states.get(&index).copied() };
        let (params, is_complete) = known_block_params(block, &context);
        precedence.foreseen_params[index] = foreseen_json(&params);
        if similar_pairs < MAX_ORDERED_PAIRS {
            let like = deletion_index.find_similar(&integration, &params, own);
            similar_pairs += like.len();
            similar.push((index, like));
        }
        let same = deletion_index.by_params.get(&integration_key(
            &integration,
            "",
            &canonical_json(&Json::Object(params)),
        ));
        let Some(same) = same.filter(|_| is_complete) else { continue };
        precedence.deletions_first[index] = match same_pairs + same.len() <= MAX_ORDERED_PAIRS {
            true => same.clone(),
            false => vec![same[index % same.len()]],
        };
        same_pairs += precedence.deletions_first[index].len();
        // Expected state of the recreated object, to evaluate the params of dependents.
        let twin = &deletions[same[0]];
        if own.is_none()
            && let Some(twin) = by_key.get(&(twin.name.as_str(), twin.integration.as_str()))
        {
            states.insert(index, twin.state.as_ref());
        }
    }
    release_deletions(graph, deletions, &precedence.deletions_first);
    add_similar_deletions(graph, deletions, &mut precedence.deletions_first, similar);
    precedence
}

fn foreseen_json(params: &Map<String, Json>) -> Option<String> {
    let plain = params.iter().filter(|(_, value)| can_identify(value));
    let plain: Map<String, Json> = plain.map(|(key, value)| (key.clone(), value.clone())).collect();
    serde_json::to_string(&plain).ok().filter(|text| text.len() <= MAX_FORESEEN_BYTES)
}

/// Deletions that precede a block, and the deletions that precede these, do not wait for such a
/// block or its dependents.
fn release_deletions(
    graph: &BlockGraph,
    deletions: &mut [BlockDeletion],
    deletions_first: &[Vec<usize>],
) {
    let nodes = graph.nodes.len();
    let mut bound: HashSet<usize> = HashSet::new();
    let mut to_visit: Vec<usize> = deletions_first.iter().flatten().copied().collect();
    while let Some(n) = to_visit.pop() {
        if bound.insert(n) {
            to_visit.extend(
                deletions[n].after_steps.iter().filter(|at| **at >= nodes).map(|at| at - nodes),
            );
        }
    }
    if bound.is_empty() {
        return;
    }
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.dependencies().iter().for_each(|need| needed_by[*need].push(index));
    }
    let mut later: HashSet<usize> = HashSet::new();
    let mut to_visit: Vec<usize> =
        (0..nodes).filter(|index| !deletions_first[*index].is_empty()).collect();
    while let Some(index) = to_visit.pop() {
        if later.insert(index) {
            to_visit.extend(&needed_by[index]);
        }
    }
    for n in bound {
        deletions[n].after_steps.retain(|at| !later.contains(at));
    }
}

/// Adds no wait to a block that any deletion waits for, directly or indirectly,
/// which rules out cycles.
fn add_similar_deletions(
    graph: &BlockGraph,
    deletions: &[BlockDeletion],
    deletions_first: &mut [Vec<usize>],
    similar: Vec<(usize, Vec<usize>)>,
) {
    let nodes = graph.nodes.len();
    let mut before: HashSet<usize> = HashSet::new();
    let mut to_visit: Vec<usize> =
        deletions.iter().flat_map(|deletion| deletion.after_steps.clone()).collect();
    while let Some(index) = to_visit.pop() {
        if index < nodes && before.insert(index) {
            to_visit.extend(graph.nodes[index].dependencies());
        }
    }
    for (index, like) in similar.into_iter().filter(|(place, _)| !before.contains(place)) {
        deletions_first[index].extend(like);
        deletions_first[index].sort_unstable();
        deletions_first[index].dedup();
    }
}

const MOVE_STORED_SQL: &str = "WITH moved AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[]) AS m (was, name, integration)
), noted AS (
    INSERT INTO configurator_gone AS o (instance_id, name, integration, block_id)
    SELECT $1, was, integration, nextval('configurator_block_ids') FROM moved
    ON CONFLICT (instance_id, name, integration) DO UPDATE SET block_id = excluded.block_id, gone_at = now()
)
UPDATE configurator_stored s SET name = m.name
FROM moved m WHERE s.instance_id = $1 AND s.name = m.was AND s.integration = m.integration";

const MOVE_USES_SQL: &str = "UPDATE configurator_stored s
SET depends_on = ARRAY(
    SELECT coalesce((SELECT m.name FROM unnest($2::text[], $3::text[]) AS m (was, name) WHERE m.was = d.name LIMIT 1), d.name)
    FROM unnest(s.depends_on) WITH ORDINALITY AS d (name, place) ORDER BY d.place)
WHERE s.instance_id = $1 AND s.depends_on && $2::text[] AND $4::text[] IS NOT NULL";
