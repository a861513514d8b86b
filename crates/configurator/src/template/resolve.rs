//! From names to places: finds what every reference leads to, dissolves modules into wires, refuses cycles.

use std::collections::{HashMap, HashSet};

use reconcile::{listed, suggestion};

use super::expression::{Expression, Reference};
use super::read::{Member, Module, Value, Written};
use super::{Block, Faults, GLOBAL, Graph, MOST_BLOCKS, Node, Source};

/// Modules' values that lead to one another, at most.
const LONGEST_WIRE: u32 = 64;

/// What a name leads to where it is read: a block's or module's outputs, or a module's own inputs.
type Outputs<'m> = HashMap<&'m str, Source>;
/// What can be seen in a module.
type Sight<'m> = HashMap<&'m str, Outputs<'m>>;

/// Places of a module's wires and of its members, in the order of the module.
struct Places<'m> {
    inputs: Outputs<'m>,
    members: Vec<Placed<'m>>,
    /// Seen from outside.
    outputs: Outputs<'m>,
}

enum Placed<'m> {
    Module(Places<'m>),
    Block(usize),
}

struct Resolver<'f> {
    faults: &'f mut Faults,
    nodes: Vec<Option<Node>>,
    /// For cycles: whose a place is, and its line.
    names: Vec<(String, u32)>,
    run_inputs: HashSet<String>,
}

pub(super) fn resolve(root: &Module, faults: &mut Faults) -> Graph {
    let run_inputs = root.run_inputs.iter().map(|input| input.name.clone()).collect();
    let mut resolver = Resolver { faults, nodes: Vec::new(), names: Vec::new(), run_inputs };
    let places = resolver.place(root);
    super::former::check(root, resolver.faults);
    let outputs = resolver.module(root, &places);
    // Every place was filled, or there are faults.
    let empty = || Node::Wire(Expression::Literal(serde_json::Value::Null));
    let nodes: Vec<Node> = resolver.nodes.iter_mut().map(|node| node.take().unwrap_or_else(empty)).collect();
    let blocks = nodes.iter().filter(|node| matches!(node, Node::Block(_))).count();
    if blocks > MOST_BLOCKS {
        faults.add(GLOBAL, root.line, format!("{blocks} blocks: at most {MOST_BLOCKS} are allowed"));
    } else {
        order(&nodes, &resolver.names, faults);
    }
    Graph { inputs: root.run_inputs.clone(), nodes, outputs }
}

impl Resolver<'_> {
    fn add(&mut self, name: &str, line: u32) -> usize {
        self.nodes.push(None);
        self.names.push((name.to_owned(), line));
        self.nodes.len() - 1
    }

    fn place<'m>(&mut self, module: &'m Module) -> Places<'m> {
        let mut wires = |values: &'m [Value]| -> Outputs<'m> {
            let wire = |value: &'m Value| {
                (value.name.as_str(), Source::Wire(self.add(&module.full_name, module.line)))
            };
            values.iter().map(wire).collect()
        };
        let inputs = wires(&module.inputs);
        // The root's outputs are nobody's inputs.
        let outputs = if module.full_name == GLOBAL { HashMap::new() } else { wires(&module.outputs) };
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for member in &module.members {
            let (name, full_name, line, placed) = match member {
                Member::Module(inner) => {
                    (&inner.name, &inner.full_name, inner.line, Placed::Module(self.place(inner)))
                }
                Member::Block(block) => {
                    let place = self.add(&block.full_name, block.line);
                    (&block.name, &block.full_name, block.line, Placed::Block(place))
                }
            };
            if !seen.insert(name) {
                self.faults.add(full_name, line, format!("there is already a block named `{name}` here"));
            } else if *name == module.name {
                self.faults.add(full_name, line, format!("`{name}` is the name of the module around it"));
            }
            members.push(placed);
        }
        Places { inputs, members, outputs }
    }

    /// Fills the places of a module; answers its outputs, resolved.
    fn module<'m>(&mut self, module: &'m Module, places: &Places<'m>) -> Vec<(String, Expression<Source>)> {
        let mut sight: Sight<'_> = HashMap::new();
        for (member, placed) in module.members.iter().zip(&places.members) {
            match (member, placed) {
                (Member::Module(inner), Placed::Module(places)) => {
                    sight.insert(&inner.name, places.outputs.clone());
                }
                (Member::Block(block), Placed::Block(place)) => {
                    let output = |name: &'m String| (name.as_str(), Source::Output(*place, name.clone()));
                    sight.insert(&block.name, block.outputs.iter().map(output).collect());
                }
                _ => {}
            }
        }
        if module.full_name != GLOBAL {
            sight.insert(&module.name, places.inputs.clone());
        }
        for (member, placed) in module.members.iter().zip(&places.members) {
            match (member, placed) {
                (Member::Block(block), Placed::Block(place)) => {
                    self.nodes[*place] = Some(Node::Block(Box::new(self.block(block, &sight))));
                }
                (Member::Module(inner), Placed::Module(places)) => {
                    for value in &inner.inputs {
                        let resolved = self.expression(&inner.full_name, &value.value, &sight);
                        self.fill(places.inputs.get(value.name.as_str()), resolved);
                    }
                    let outputs = self.module(inner, places);
                    for (name, resolved) in outputs {
                        self.fill(places.outputs.get(name.as_str()), resolved);
                    }
                }
                _ => {}
            }
        }
        let output =
            |value: &Value| (value.name.clone(), self.expression(&module.full_name, &value.value, &sight));
        module.outputs.iter().map(output).collect()
    }

    fn fill(&mut self, place: Option<&Source>, value: Expression<Source>) {
        if let Some(Source::Wire(place)) = place {
            self.nodes[*place] = Some(Node::Wire(value));
        }
    }

    fn block(&mut self, written: &Written, sight: &Sight<'_>) -> Block {
        let name = &written.full_name;
        let listed: HashSet<(&str, &str)> =
            written.inputs.iter().map(|of| (of.block.as_str(), of.output.as_str())).collect();
        let mut used = Vec::new();
        written.args.references(&mut used);
        for of in used.iter().filter(|of| !listed.contains(&(of.block.as_str(), of.output.as_str()))) {
            let reason = format!("`${}.{}` is used but not listed in `inputs`", of.block, of.output);
            // What is unknown is said once, as that.
            if self.find(name, of, sight).is_some() {
                self.faults.add(name, of.line, reason);
            }
        }
        let unlisted = |of: &Reference| listed.contains(&(of.block.as_str(), of.output.as_str()));
        let args = written.args.map(&mut |of| if unlisted(of) { self.look(of, sight) } else { None });
        let sources = written.inputs.iter().filter_map(|of| self.find(name, of, sight)).collect();
        Block {
            name: name.clone(),
            former: written.former.clone(),
            line: written.line,
            queue: written.queue.clone(),
            task: written.task.clone(),
            args,
            listed: sources,
            outputs: written.outputs.clone(),
            cache: written.cache,
            timeout: written.timeout,
            version: written.version.clone(),
        }
    }

    fn expression(
        &mut self,
        block: &str,
        expression: &Expression<Reference>,
        sight: &Sight<'_>,
    ) -> Expression<Source> {
        expression.map(&mut |of| self.find(block, of, sight))
    }

    /// What a reference leads to; says so if it leads nowhere.
    fn find(&mut self, block: &str, of: &Reference, sight: &Sight<'_>) -> Option<Source> {
        let found = self.look(of, sight);
        if found.is_none() {
            let run_inputs = &self.run_inputs;
            self.faults.add_with(block, of.line, || unknown(of, sight, run_inputs));
        }
        found
    }

    fn look(&self, of: &Reference, sight: &Sight<'_>) -> Option<Source> {
        if of.block == GLOBAL {
            return self.run_inputs.contains(&of.output).then(|| Source::Input(of.output.clone()));
        }
        sight.get(of.block.as_str())?.get(of.output.as_str()).cloned()
    }
}

/// Why a reference leads to nothing, and what may have been meant.
fn unknown(of: &Reference, sight: &Sight<'_>, run_inputs: &HashSet<String>) -> String {
    let (what, name, mut known): (_, &str, Vec<&str>) = if of.block == GLOBAL {
        ("global has no input".to_owned(), &of.output, run_inputs.iter().map(String::as_str).collect())
    } else if let Some(outputs) = sight.get(of.block.as_str()) {
        (format!("{} has no output", of.block), &of.output, outputs.keys().copied().collect())
    } else {
        ("there is no block".to_owned(), &of.block, sight.keys().copied().chain([GLOBAL]).collect())
    };
    known.sort_unstable();
    let near = suggestion(name, known.iter().copied());
    let more = if known.len() > 10 { ", …" } else { "" };
    known.truncate(10);
    let shown = format!("`{}.{}`", of.block, of.output);
    format!("unknown reference {shown}: {what} `{name}`{near} (known: {}{more})", listed(known))
}

/// Refuses cycles, and values that lead to values without end.
fn order(nodes: &[Node], names: &[(String, u32)], faults: &mut Faults) {
    let needs: Vec<Vec<usize>> = nodes.iter().map(Node::needs).collect();
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|needed| needed_by[*needed].push(place));
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|place| waiting[*place] == 0).collect();
    let mut wire = vec![0_u32; nodes.len()];
    let mut done = 0;
    while let Some(place) = ready.pop() {
        done += 1;
        if wire[place] > LONGEST_WIRE {
            let (name, line) = &names[place];
            faults.add(name, *line, format!("a value passes more than {LONGEST_WIRE} modules"));
            return;
        }
        for next in &needed_by[place] {
            if matches!(nodes[place], Node::Wire(_)) {
                wire[*next] = wire[*next].max(wire[place] + 1);
            }
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    if done < nodes.len() {
        say_cycle(&needs, &waiting, names, faults);
    }
}

/// Of what waits for ever, each waits for another one that does.
fn say_cycle(needs: &[Vec<usize>], waiting: &[usize], names: &[(String, u32)], faults: &mut Faults) {
    let stuck = |place: &usize| waiting[*place] > 0;
    let Some(mut place) = (0..needs.len()).find(stuck) else { return };
    let (mut way, mut seen) = (Vec::new(), HashMap::new());
    while !seen.contains_key(&place) {
        seen.insert(place, way.len());
        way.push(place);
        let Some(next) = needs[place].iter().copied().find(|next| stuck(next)) else { return };
        place = next;
    }
    let circle = &way[seen[&place]..];
    let mut shown: Vec<&str> = circle.iter().map(|place| names[*place].0.as_str()).collect();
    shown.dedup();
    let (first, line) = &names[place];
    let more = if shown.len() > 20 { " -> …" } else { "" };
    shown.truncate(20);
    faults.add(
        first,
        *line,
        format!("the blocks wait for each other in a cycle: {}{more} -> {first}", shown.join(" -> ")),
    );
}
