//! Blocks that have another name than when they last succeeded: those that say so (`renamed_from`) take what is stored along,
//! and of the others the deletion comes before whatever may be about the same thing. Pure, but for [`move_stored`].

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value as Json};
use sqlx::PgConnection;

use super::plan::{Deletion, Stored, in_order};
use crate::template::{Block, Expression, Graph, Node, Values};

/// Pairs of deletions and blocks that are put in order, at most: of those that are the same, and of those that are not quite. Where
/// a template has more of the same, each block waits for one of them.
const MOST_PAIRS: usize = 100_000;

/// What is stored under a name that its block has no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) integration: String,
}

/// The moves that the template asks for, and what is stored as it is after them.
pub(super) fn renamed(graph: &Graph, mut stored: Vec<Stored>) -> (Vec<Stored>, Vec<Move>) {
    let living: HashSet<(&str, String)> =
        graph.blocks().map(|(_, block)| (block.name.as_str(), block.integration())).collect();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for (n, stored) in stored.iter().enumerate() {
        places.insert((stored.name.clone(), stored.integration.clone()), n);
    }
    let mut moves = Vec::new();
    for (_, block) in graph.blocks().filter(|(_, block)| !block.former.is_empty()) {
        let integration = block.integration();
        if places.contains_key(&(block.name.clone(), integration.clone())) {
            continue;
        }
        let was = |former: &&String| {
            !living.contains(&(former.as_str(), integration.clone()))
                && places.contains_key(&((*former).clone(), integration.clone()))
        };
        if let Some(from) = block.former.iter().find(was).cloned()
            && let Some(n) = places.remove(&(from.clone(), integration.clone()))
        {
            stored[n].name.clone_from(&block.name);
            moves.push(Move { from, to: block.name.clone(), integration });
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

/// Does the moves. Answers that still come to messages under the former names change nothing.
pub(super) async fn move_stored(
    connection: &mut PgConnection,
    instance_id: i64,
    moves: &[Move],
) -> store::Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Move) -> &str| moves.iter().map(of).collect::<Vec<_>>();
    for statement in [MOVE, MOVE_USES] {
        sqlx::query(statement)
            .bind(instance_id)
            .bind(column(|moved| &moved.from))
            .bind(column(|moved| &moved.to))
            .bind(column(|moved| &moved.integration))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Text that is the same for the same value, however its members are ordered.
fn canonical(value: &Json) -> String {
    fn sorted(value: &Json) -> Json {
        match value {
            Json::Object(map) => {
                let sorted: BTreeMap<&String, Json> =
                    map.iter().map(|(key, value)| (key, sorted(value))).collect();
                sorted.into_iter().map(|(key, value)| (key.clone(), value)).collect()
            }
            Json::Array(items) => items.iter().map(sorted).collect(),
            value => value.clone(),
        }
    }
    sorted(value).to_string()
}

/// A text that tells a value of one integration from those of others.
fn keyed(integration: &str, what: &str, value: &str) -> String {
    format!("{integration}\n{what}\n{value}")
}

/// What of a block's params is known before anything is answered; whether that is all of it.
fn known_params(block: &Block, values: &Values<'_>) -> (Map<String, Json>, bool) {
    if let Ok(Json::Object(all)) = values.of(&block.args) {
        return (all, true);
    }
    let Expression::Map(entries) = &block.args else { return (Map::new(), false) };
    let known = |(key, value): &(String, _)| Some((key.clone(), values.of(value).ok()?));
    (entries.iter().filter_map(known).collect(), false)
}

/// The members of params by which an integration may know a thing.
fn marks(integration: &str, params: &Map<String, Json>) -> Vec<String> {
    let telling = |value: &&Json| matches!(value, Json::String(_) | Json::Number(_));
    let members = params.iter().filter(|(_, value)| telling(value));
    members.map(|(key, value)| keyed(integration, key, &value.to_string())).collect()
}

/// What is deleted, found by what it was about.
#[derive(Default)]
struct Gone {
    by_params: HashMap<String, Vec<usize>>,
    by_state: HashMap<String, Vec<usize>>,
    by_mark: HashMap<String, Vec<usize>>,
}

impl Gone {
    fn of(deletions: &[Deletion], stored: &HashMap<(&str, &str), &Stored>) -> Self {
        let mut gone = Self::default();
        for (n, deletion) in deletions.iter().enumerate() {
            let integration = deletion.integration.as_str();
            let Some(stored) = stored.get(&(deletion.name.as_str(), integration)) else { continue };
            let Ok(Json::Object(params)) = stored.params.parse() else { continue };
            for mark in marks(integration, &params) {
                gone.by_mark.entry(mark).or_default().push(n);
            }
            let params = keyed(integration, "", &canonical(&Json::Object(params)));
            gone.by_params.entry(params).or_default().push(n);
            if !stored.state.is_empty() {
                gone.by_state.entry(state_key(integration, stored)).or_default().push(n);
            }
        }
        gone
    }
}

impl Gone {
    /// Deletions of what has something in common with a block: with the state of one that is there, with the params of others.
    fn like(&self, integration: &str, params: &Map<String, Json>, own: Option<&Stored>) -> Vec<usize> {
        let mut like: Vec<usize> = match own {
            Some(own) => self.by_state.get(&state_key(integration, own)).cloned().unwrap_or_default(),
            None => {
                let marks = marks(integration, params);
                marks.iter().filter_map(|mark| self.by_mark.get(mark)).flatten().copied().collect()
            }
        };
        like.sort_unstable();
        like.dedup();
        like
    }
}

fn state_key(integration: &str, stored: &Stored) -> String {
    keyed(integration, "", &canonical(&Json::Object(stored.state.as_ref().clone())))
}

/// What is known of a template's nodes beside deletions of the same integrations.
pub(super) struct Precedence {
    /// For each node the deletions that come before it: their places among the deletions.
    pub(super) first: Vec<Vec<usize>>,
    /// Texts and numbers of a block's params, as JSON, as far as they are known before anything is sent.
    pub(super) foreseen: Vec<Option<String>>,
}

/// Longest JSON of what is foreseen of a block.
const LONGEST_FORESEEN: usize = 4096;

/// A block with the very params of what is deleted is the same thing under another name: its deletion does not wait for what
/// depends on that block. Where only something is the same, the deletion comes first if nothing speaks against it.
pub(super) fn deletions_first(
    graph: &Graph,
    stored: &[Stored],
    deletions: &mut [Deletion],
    inputs: &Map<String, Json>,
) -> Precedence {
    let mut found =
        Precedence { first: vec![Vec::new(); graph.nodes.len()], foreseen: vec![None; graph.nodes.len()] };
    if deletions.is_empty() {
        return found;
    }
    let by_key: HashMap<(&str, &str), &Stored> =
        stored.iter().map(|stored| ((stored.name.as_str(), stored.integration.as_str()), stored)).collect();
    let gone = Gone::of(deletions, &by_key);
    let concerned: HashSet<String> = deletions.iter().map(|deletion| deletion.integration.clone()).collect();
    let mut states: HashMap<usize, &Map<String, Json>> = HashMap::new();
    let mut similar: Vec<(usize, Vec<usize>)> = Vec::new();
    let (mut similar_pairs, mut same_pairs) = (0, 0);
    for place in in_order(graph) {
        let Node::Block(block) = &graph.nodes[place] else { continue };
        let integration = block.integration();
        let own = by_key.get(&(block.name.as_str(), integration.as_str())).copied();
        states.extend(own.map(|own| (place, own.state.as_ref())));
        if !concerned.contains(&integration) {
            continue;
        }
        let state = |place: usize| states.get(&place).copied();
        let (params, all) = known_params(block, &Values { graph, inputs, state: &state });
        found.foreseen[place] = foreseen(&params);
        if similar_pairs < MOST_PAIRS {
            let like = gone.like(&integration, &params, own);
            similar_pairs += like.len();
            similar.push((place, like));
        }
        let same = gone.by_params.get(&keyed(&integration, "", &canonical(&Json::Object(params))));
        let Some(same) = same.filter(|_| all) else { continue };
        found.first[place] = match same_pairs + same.len() <= MOST_PAIRS {
            true => same.clone(),
            false => vec![same[place % same.len()]],
        };
        same_pairs += found.first[place].len();
        // What it will answer, as far as can be known.
        let twin = &deletions[same[0]];
        if own.is_none()
            && let Some(twin) = by_key.get(&(twin.name.as_str(), twin.integration.as_str()))
        {
            states.insert(place, twin.state.as_ref());
        }
    }
    release(graph, deletions, &found.first);
    add_similar(graph, deletions, &mut found.first, similar);
    found
}

fn foreseen(params: &Map<String, Json>) -> Option<String> {
    let plain = params.iter().filter(|(_, value)| matches!(value, Json::String(_) | Json::Number(_)));
    let plain: Map<String, Json> = plain.map(|(key, value)| (key.clone(), value.clone())).collect();
    serde_json::to_string(&plain).ok().filter(|text| text.len() <= LONGEST_FORESEEN)
}

/// Deletions that come before a block, and those that come before them, wait for nothing that waits for such a block.
fn release(graph: &Graph, deletions: &mut [Deletion], first: &[Vec<usize>]) {
    let nodes = graph.nodes.len();
    let mut bound: HashSet<usize> = HashSet::new();
    let mut to_see: Vec<usize> = first.iter().flatten().copied().collect();
    while let Some(n) = to_see.pop() {
        if bound.insert(n) {
            to_see.extend(deletions[n].after.iter().filter(|at| **at >= nodes).map(|at| at - nodes));
        }
    }
    if bound.is_empty() {
        return;
    }
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for (place, node) in graph.nodes.iter().enumerate() {
        node.needs().iter().for_each(|need| needed_by[*need].push(place));
    }
    let mut later: HashSet<usize> = HashSet::new();
    let mut to_see: Vec<usize> = (0..nodes).filter(|place| !first[*place].is_empty()).collect();
    while let Some(place) = to_see.pop() {
        if later.insert(place) {
            to_see.extend(&needed_by[place]);
        }
    }
    for n in bound {
        deletions[n].after.retain(|at| !later.contains(at));
    }
}

/// Nothing that a deletion waits for is made to wait for one: so there is no cycle.
fn add_similar(
    graph: &Graph,
    deletions: &[Deletion],
    first: &mut [Vec<usize>],
    similar: Vec<(usize, Vec<usize>)>,
) {
    let nodes = graph.nodes.len();
    let mut before: HashSet<usize> = HashSet::new();
    let mut to_see: Vec<usize> = deletions.iter().flat_map(|deletion| deletion.after.clone()).collect();
    while let Some(place) = to_see.pop() {
        if place < nodes && before.insert(place) {
            to_see.extend(graph.nodes[place].needs());
        }
    }
    for (place, like) in similar.into_iter().filter(|(place, _)| !before.contains(place)) {
        first[place].extend(like);
        first[place].sort_unstable();
        first[place].dedup();
    }
}

const MOVE: &str = "-- move_stored
WITH moved AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[]) AS m (was, name, integration)
), noted AS (
    INSERT INTO configurator_gone AS o (instance_id, name, integration, block_id)
    SELECT $1, was, integration, nextval('configurator_block_ids') FROM moved
    ON CONFLICT (instance_id, name, integration) DO UPDATE SET block_id = excluded.block_id, gone_at = now()
)
UPDATE configurator_stored s SET name = m.name
FROM moved m WHERE s.instance_id = $1 AND s.name = m.was AND s.integration = m.integration";

const MOVE_USES: &str = "-- move_uses
UPDATE configurator_stored s
SET depends_on = ARRAY(
    SELECT coalesce((SELECT m.name FROM unnest($2::text[], $3::text[]) AS m (was, name) WHERE m.was = d.name LIMIT 1), d.name)
    FROM unnest(s.depends_on) WITH ORDINALITY AS d (name, place) ORDER BY d.place)
WHERE s.instance_id = $1 AND s.depends_on && $2::text[] AND $4::text[] IS NOT NULL";
