//! Resolution of references to node indices; replaces modules by wires and refuses cycles.

use std::collections::{HashMap, HashSet};

use yaml::{list_names, suggest_name};

use super::expression::{BlockReference, Expression};
use super::written::{ModuleMember, ModuleValue, TemplateModule, WrittenBlock};
use super::{
    Block, BlockGraph, BlockGraphNode, BlockTemplateFaults, BlockValueSource, MAX_TEMPLATE_BLOCKS,
    ROOT_MODULE_NAME,
};

/// Maximum length of a chain of wires.
const MAX_WIRE_LENGTH: u32 = 64;

/// The targets of references to one block or module, by output, or by input inside a module.
type SourcesByName<'m> = HashMap<&'m str, BlockValueSource>;
/// The targets visible in a module, by block name.
type VisibleSources<'m> = HashMap<&'m str, SourcesByName<'m>>;

/// Node indices of a module's wires and of its members, in the order of the module.
struct ModuleIndices<'m> {
    inputs: SourcesByName<'m>,
    members: Vec<MemberIndices<'m>>,
    /// As seen from outside the module.
    outputs: SourcesByName<'m>,
}

enum MemberIndices<'m> {
    Module(ModuleIndices<'m>),
    Block(usize),
}

struct ReferenceResolver<'f> {
    faults: &'f mut BlockTemplateFaults,
    nodes: Vec<Option<BlockGraphNode>>,
    /// Owner and line of each node, for faults about cycles.
    node_names: Vec<(String, u32)>,
    run_inputs: HashSet<String>,
}

pub(super) fn resolve_template(
    root: &TemplateModule,
    faults: &mut BlockTemplateFaults,
) -> BlockGraph {
    let run_inputs = root.run_inputs.iter().map(|input| input.name.clone()).collect();
    let mut resolver =
        ReferenceResolver { faults, nodes: Vec::new(), node_names: Vec::new(), run_inputs };
    let indices = resolver.add_module_nodes(root);
    super::former_names::check_former_names(root, resolver.faults);
    let outputs = resolver.resolve_module(root, &indices);
    // Every node is filled, unless there are faults.
    let mut nodes = Vec::new();
    for node in resolver.nodes {
        let null_wire = BlockGraphNode::Wire(Expression::Literal(serde_json::Value::Null));
        nodes.push(node.unwrap_or(null_wire));
    }
    let blocks = nodes.iter().filter(|node| matches!(node, BlockGraphNode::Block(_))).count();
    if blocks > MAX_TEMPLATE_BLOCKS {
        faults.add(
            ROOT_MODULE_NAME,
            root.line,
            format!("{blocks} blocks: at most {MAX_TEMPLATE_BLOCKS} are allowed"),
        );
    } else {
        check_acyclic(&nodes, &resolver.node_names, faults);
    }
    BlockGraph { inputs: root.run_inputs.clone(), nodes, outputs }
}

impl ReferenceResolver<'_> {
    fn add_node(&mut self, name: &str, line: u32) -> usize {
        self.nodes.push(None);
        self.node_names.push((name.to_owned(), line));
        self.nodes.len() - 1
    }

    /// Adds a wire for each input or output of a module.
    fn add_wires<'m>(
        &mut self,
        module: &TemplateModule,
        values: &'m [ModuleValue],
    ) -> SourcesByName<'m> {
        let mut wires = HashMap::new();
        for value in values {
            let index = self.add_node(&module.full_name, module.line);
            wires.insert(value.name.as_str(), BlockValueSource::Wire(index));
        }
        wires
    }

    fn add_module_nodes<'m>(&mut self, module: &'m TemplateModule) -> ModuleIndices<'m> {
        let inputs = self.add_wires(module, &module.inputs);
        // The root's outputs have no readers in the graph.
        let outputs = if module.full_name == ROOT_MODULE_NAME {
            HashMap::new()
        } else {
            self.add_wires(module, &module.outputs)
        };
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for member in &module.members {
            let (name, full_name, line, member_indices) = match member {
                ModuleMember::Module(inner) => (
                    &inner.name,
                    &inner.full_name,
                    inner.line,
                    MemberIndices::Module(self.add_module_nodes(inner)),
                ),
                ModuleMember::Block(block) => {
                    let index = self.add_node(&block.full_name, block.line);
                    (&block.name, &block.full_name, block.line, MemberIndices::Block(index))
                }
            };
            if !seen.insert(name) {
                self.faults.add(
                    full_name,
                    line,
                    format!("there is already a block named `{name}` here"),
                );
            } else if *name == module.name {
                self.faults.add(
                    full_name,
                    line,
                    format!("`{name}` is the name of the module around it"),
                );
            }
            members.push(member_indices);
        }
        ModuleIndices { inputs, members, outputs }
    }

    /// Fills the nodes of a module, and returns its resolved outputs.
    fn resolve_module<'m>(
        &mut self,
        module: &'m TemplateModule,
        indices: &ModuleIndices<'m>,
    ) -> Vec<(String, Expression<BlockValueSource>)> {
        let mut visible: VisibleSources<'_> = HashMap::new();
        for (member, member_indices) in module.members.iter().zip(&indices.members) {
            match (member, member_indices) {
                (ModuleMember::Module(inner), MemberIndices::Module(inner_indices)) => {
                    visible.insert(&inner.name, inner_indices.outputs.clone());
                }
                (ModuleMember::Block(block), MemberIndices::Block(index)) => {
                    visible.insert(&block.name, block_sources(block, *index));
                }
                _ => {}
            }
        }
        if module.full_name != ROOT_MODULE_NAME {
            visible.insert(&module.name, indices.inputs.clone());
        }
        for (member, member_indices) in module.members.iter().zip(&indices.members) {
            match (member, member_indices) {
                (ModuleMember::Block(block), MemberIndices::Block(index)) => {
                    self.nodes[*index] =
                        Some(BlockGraphNode::Block(Box::new(self.resolve_block(block, &visible))));
                }
                (ModuleMember::Module(inner), MemberIndices::Module(inner_indices)) => {
                    for value in &inner.inputs {
                        let resolved =
                            self.resolve_expression(&inner.full_name, &value.value, &visible);
                        self.fill_wire(inner_indices.inputs.get(value.name.as_str()), resolved);
                    }
                    let outputs = self.resolve_module(inner, inner_indices);
                    for (name, resolved) in outputs {
                        self.fill_wire(inner_indices.outputs.get(name.as_str()), resolved);
                    }
                }
                _ => {}
            }
        }
        let mut outputs = Vec::new();
        for value in &module.outputs {
            let resolved = self.resolve_expression(&module.full_name, &value.value, &visible);
            outputs.push((value.name.clone(), resolved));
        }
        outputs
    }

    fn fill_wire(&mut self, wire: Option<&BlockValueSource>, value: Expression<BlockValueSource>) {
        if let Some(BlockValueSource::Wire(index)) = wire {
            self.nodes[*index] = Some(BlockGraphNode::Wire(value));
        }
    }

    fn resolve_block(&mut self, block: &WrittenBlock, visible: &VisibleSources<'_>) -> Block {
        let name = &block.full_name;
        let listed: HashSet<(&str, &str)> = block
            .inputs
            .iter()
            .map(|reference| (reference.block.as_str(), reference.output.as_str()))
            .collect();
        let mut used = Vec::new();
        block.args.collect_references(&mut used);
        for reference in
            used.iter().filter(|of| !listed.contains(&(of.block.as_str(), of.output.as_str())))
        {
            let reason = format!(
                "`${}.{}` is used but not listed in `inputs`",
                reference.block, reference.output
            );
            // An unknown reference is reported once, as unknown.
            if self.find_source(name, reference, visible).is_some() {
                self.faults.add(name, reference.line, reason);
            }
        }
        let args = block.args.map_references(&mut |reference| {
            let is_listed = listed.contains(&(reference.block.as_str(), reference.output.as_str()));
            if is_listed { self.look_up_source(reference, visible) } else { None }
        });
        let sources = block
            .inputs
            .iter()
            .filter_map(|reference| self.find_source(name, reference, visible))
            .collect();
        Block {
            name: name.clone(),
            former_names: block.former_names.clone(),
            line: block.line,
            queue: block.queue.clone(),
            task_type: block.task_type.clone(),
            args,
            listed_sources: sources,
            outputs: block.outputs.clone(),
            cache: block.cache,
            timeout: block.timeout,
            version: block.version.clone(),
        }
    }

    fn resolve_expression(
        &mut self,
        block: &str,
        expression: &Expression<BlockReference>,
        visible: &VisibleSources<'_>,
    ) -> Expression<BlockValueSource> {
        expression.map_references(&mut |reference| self.find_source(block, reference, visible))
    }

    /// Resolves a reference; reports an unknown one.
    fn find_source(
        &mut self,
        block: &str,
        reference: &BlockReference,
        visible: &VisibleSources<'_>,
    ) -> Option<BlockValueSource> {
        let found = self.look_up_source(reference, visible);
        if found.is_none() {
            let run_inputs = &self.run_inputs;
            self.faults.add_with(block, reference.line, || {
                unknown_reference_reason(reference, visible, run_inputs)
            });
        }
        found
    }

    fn look_up_source(
        &self,
        reference: &BlockReference,
        visible: &VisibleSources<'_>,
    ) -> Option<BlockValueSource> {
        if reference.block == ROOT_MODULE_NAME {
            return self
                .run_inputs
                .contains(&reference.output)
                .then(|| BlockValueSource::Input(reference.output.clone()));
        }
        visible.get(reference.block.as_str())?.get(reference.output.as_str()).cloned()
    }
}

/// The targets of references to the outputs of a block, which is the node at `index`.
fn block_sources(block: &WrittenBlock, index: usize) -> SourcesByName<'_> {
    let mut sources = HashMap::new();
    for name in &block.outputs {
        sources.insert(name.as_str(), BlockValueSource::Output(index, name.clone()));
    }
    sources
}

/// Why a reference is unknown, with the most similar name.
fn unknown_reference_reason(
    reference: &BlockReference,
    visible: &VisibleSources<'_>,
    run_inputs: &HashSet<String>,
) -> String {
    let (what, name, mut known_names): (_, &str, Vec<&str>) = if reference.block == ROOT_MODULE_NAME
    {
        (
            "global has no input".to_owned(),
            &reference.output,
            run_inputs.iter().map(String::as_str).collect(),
        )
    } else if let Some(outputs) = visible.get(reference.block.as_str()) {
        (
            format!("{} has no output", reference.block),
            &reference.output,
            outputs.keys().copied().collect(),
        )
    } else {
        (
            "there is no block".to_owned(),
            &reference.block,
            visible.keys().copied().chain([ROOT_MODULE_NAME]).collect(),
        )
    };
    known_names.sort_unstable();
    let near = suggest_name(name, known_names.iter().copied());
    let more = if known_names.len() > 10 { ", …" } else { "" };
    known_names.truncate(10);
    let shown = format!("`{}.{}`", reference.block, reference.output);
    format!(
        "unknown reference {shown}: {what} `{name}`{near} (known: {}{more})",
        list_names(known_names)
    )
}

/// Refuses cycles and overlong chains of wires.
fn check_acyclic(
    nodes: &[BlockGraphNode],
    names: &[(String, u32)],
    faults: &mut BlockTemplateFaults,
) {
    let needs: Vec<Vec<usize>> = nodes.iter().map(BlockGraphNode::dependencies).collect();
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|needed| needed_by[*needed].push(index));
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|index| waiting[*index] == 0).collect();
    let mut wire_lengths = vec![0_u32; nodes.len()];
    let mut done = 0;
    while let Some(index) = ready.pop() {
        done += 1;
        if wire_lengths[index] > MAX_WIRE_LENGTH {
            let (name, line) = &names[index];
            faults.add(name, *line, format!("a value passes more than {MAX_WIRE_LENGTH} modules"));
            return;
        }
        for next in &needed_by[index] {
            if matches!(nodes[index], BlockGraphNode::Wire(_)) {
                wire_lengths[*next] = wire_lengths[*next].max(wire_lengths[index] + 1);
            }
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    if done < nodes.len() {
        report_cycle(&needs, &waiting, names, faults);
    }
}

/// Follows unfinished nodes to unfinished dependencies until one repeats.
fn report_cycle(
    needs: &[Vec<usize>],
    waiting: &[usize],
    names: &[(String, u32)],
    faults: &mut BlockTemplateFaults,
) {
    let Some(mut index) = waiting.iter().position(|count| *count > 0) else { return };
    let (mut path, mut seen) = (Vec::new(), HashMap::new());
    while !seen.contains_key(&index) {
        seen.insert(index, path.len());
        path.push(index);
        let Some(next) = needs[index].iter().find(|next| waiting[**next] > 0) else { return };
        index = *next;
    }
    let circle = &path[seen[&index]..];
    let mut shown: Vec<&str> = circle.iter().map(|index| names[*index].0.as_str()).collect();
    shown.dedup();
    let (first, line) = &names[index];
    let more = if shown.len() > 20 { " -> …" } else { "" };
    shown.truncate(20);
    faults.add(
        first,
        *line,
        format!(
            "the blocks wait for each other in a cycle: {}{more} -> {first}",
            shown.join(" -> ")
        ),
    );
}
