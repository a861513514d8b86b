//! A template as written: modules and blocks whose references are not resolved yet.

use std::time::Duration;

use super::Expression;
use super::expression::BlockReference;
use super::graph::RunInput;

/// A module as written, or the root.
#[derive(Debug, Default)]
pub(super) struct TemplateModule {
    /// Name within the enclosing module.
    pub(super) name: String,
    /// As `outer.inner`; `global` for the root.
    pub(super) full_name: String,
    pub(super) line: u32,
    /// Inputs of the run, only in the root.
    pub(super) run_inputs: Vec<RunInput>,
    /// Former full names from `renamed_from`.
    pub(super) renamed_from: Vec<String>,
    /// Inputs of a nested module.
    pub(super) inputs: Vec<ModuleValue>,
    pub(super) members: Vec<ModuleMember>,
    pub(super) outputs: Vec<ModuleValue>,
}

/// A named value of a module.
#[derive(Debug)]
pub(super) struct ModuleValue {
    pub(super) name: String,
    pub(super) value: Expression<BlockReference>,
}

/// A member of a module.
#[derive(Debug)]
pub(super) enum ModuleMember {
    Module(TemplateModule),
    Block(WrittenBlock),
}

/// An integration block as written.
#[derive(Debug)]
pub(super) struct WrittenBlock {
    pub(super) name: String,
    pub(super) full_name: String,
    /// Former full names from `renamed_from`.
    pub(super) renamed_from: Vec<String>,
    /// All possible former names, including those under former names of the enclosing modules.
    pub(super) former_names: Vec<String>,
    pub(super) line: u32,
    pub(super) queue: String,
    pub(super) task_type: String,
    pub(super) inputs: Vec<BlockReference>,
    pub(super) outputs: Vec<String>,
    pub(super) args: Expression<BlockReference>,
    pub(super) cache: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) version: Option<String>,
}
