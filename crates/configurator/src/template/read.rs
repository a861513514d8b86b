//! Parsing of a YAML tree into modules and blocks as written.

use yaml::{YamlNode, YamlTree};

use super::block_reader::BlockReader;
use super::former_names::BlockNames;
use super::written::{ModuleMember, TemplateModule};
use super::{BlockTemplateFaults, ROOT_MODULE_NAME, RunInput};

pub(super) fn read_root_module(
    tree: &YamlTree,
    faults: &mut BlockTemplateFaults,
) -> TemplateModule {
    let YamlNode::Map(entries) = tree.as_node() else {
        faults.add(
            ROOT_MODULE_NAME,
            tree.line,
            "a template is a mapping: type: module, name: global, inputs, blocks, outputs",
        );
        return TemplateModule::default();
    };
    let mut reader =
        BlockReader { block: ROOT_MODULE_NAME.to_owned(), line: tree.line, entries, faults };
    reader.check_known_keys(&["name", "type", "description", "inputs", "blocks", "outputs"]);
    if reader.read_text("type").is_none_or(|kind| kind != "module") {
        reader.fault_at_key("type", "the root block is of `type: module`");
    }
    if reader.read_text("name").is_none_or(|name| name != ROOT_MODULE_NAME) {
        reader.fault_at_key("name", "the root block has `name: global`");
    }
    let run_inputs = reader
        .read_list("inputs")
        .iter()
        .filter_map(|input| reader.read_run_input(input))
        .collect();
    reader.check_unique("inputs", &run_inputs, |input: &RunInput| &input.name);
    let outputs = reader.read_values("outputs");
    let blocks = reader.read_list("blocks");
    if reader.get("blocks").is_none() {
        reader.fault_at_key("blocks", "`blocks` is missing: the list of blocks");
    }
    let members =
        blocks.iter().filter_map(|block| read_member(block, &BlockNames::root(), faults)).collect();
    let (name, full_name) = (ROOT_MODULE_NAME.to_owned(), ROOT_MODULE_NAME.to_owned());
    TemplateModule {
        name,
        full_name,
        line: tree.line,
        run_inputs,
        members,
        outputs,
        ..TemplateModule::default()
    }
}

fn read_member(
    tree: &YamlTree,
    around_names: &BlockNames,
    faults: &mut BlockTemplateFaults,
) -> Option<ModuleMember> {
    let around_name = around_names.display_name();
    let YamlNode::Map(entries) = tree.as_node() else {
        faults.add(around_name, tree.line, "a block is a mapping: name, type, …");
        return None;
    };
    let mut reader =
        BlockReader { block: around_name.to_owned(), line: tree.line, entries, faults };
    let name = reader.read_own_name()?;
    let full_name = around_names.child_name(&name);
    reader.block.clone_from(&full_name);
    let renamed_from = reader.read_renamed_from(around_names);
    let names = around_names.child_names(&name, &renamed_from);
    match reader.read_text("type") {
        Some("module") => {
            reader.check_known_keys(&[
                "name",
                "type",
                "description",
                "renamed_from",
                "inputs",
                "blocks",
                "outputs",
            ]);
            let (inputs, outputs) = (reader.read_values("inputs"), reader.read_values("outputs"));
            let blocks = reader.read_list("blocks");
            let members =
                blocks.iter().filter_map(|block| read_member(block, &names, faults)).collect();
            let (line, run_inputs) = (tree.line, Vec::new());
            Some(ModuleMember::Module(TemplateModule {
                name,
                full_name,
                line,
                run_inputs,
                renamed_from,
                inputs,
                members,
                outputs,
            }))
        }
        Some("integration") => {
            let mut block = reader.read_integration_block(name, full_name)?;
            (block.renamed_from, block.former_names) = (renamed_from, names.former_names);
            Some(ModuleMember::Block(block))
        }
        _ => {
            reader.fault_at_key("type", "`type` is `integration` or `module`");
            None
        }
    }
}
