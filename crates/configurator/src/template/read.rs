//! From a YAML document to modules and blocks as they are written. References are not looked at yet.

use std::time::Duration;

use reconcile::yaml::{Node, Tree};
use reconcile::{listed, suggestion};
use serde_json::Value as Json;

use super::expression::{self, Reference};
use super::former::{MOST_FORMER, Names};
use super::names::{self, is_name};
use super::{Expression, Faults, GLOBAL, Input, Scope};

/// A module as written; the root is one.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its own name, without those around it.
    pub(super) name: String,
    /// As `outer.inner`; `global` for the root.
    pub(super) full_name: String,
    pub(super) line: u32,
    /// Of the root.
    pub(super) run_inputs: Vec<Input>,
    /// What it says it was called, in full.
    pub(super) renamed_from: Vec<String>,
    /// Of a nested module.
    pub(super) inputs: Vec<Value>,
    pub(super) members: Vec<Member>,
    pub(super) outputs: Vec<Value>,
}

/// A named value of a module.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) value: Expression<Reference>,
}

/// What a module has in it.
#[derive(Debug)]
pub(super) enum Member {
    Module(Module),
    Block(Written),
}

/// An integration block as written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) full_name: String,
    /// What it says it was called, in full.
    pub(super) renamed_from: Vec<String>,
    /// All names it may have had, as the modules around it may have been called otherwise, too.
    pub(super) former: Vec<String>,
    pub(super) line: u32,
    pub(super) queue: String,
    pub(super) task: String,
    pub(super) inputs: Vec<Reference>,
    pub(super) outputs: Vec<String>,
    pub(super) args: Expression<Reference>,
    pub(super) cache: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) version: Option<String>,
}

/// Reads one block; knows its name for what is wrong.
struct Reader<'t, 'f> {
    block: String,
    line: u32,
    entries: &'t [(String, Tree)],
    faults: &'f mut Faults,
}

pub(super) fn root(tree: &Tree, faults: &mut Faults) -> Module {
    let Node::Map(entries) = tree.node() else {
        faults.add(
            GLOBAL,
            tree.line,
            "a template is a mapping: type: module, name: global, inputs, blocks, outputs",
        );
        return Module::default();
    };
    let mut reader = Reader { block: GLOBAL.to_owned(), line: tree.line, entries, faults };
    reader.known(&["name", "type", "description", "inputs", "blocks", "outputs"]);
    if reader.text("type").is_none_or(|kind| kind != "module") {
        reader.wrong("type", "the root block is of `type: module`");
    }
    if reader.text("name").is_none_or(|name| name != GLOBAL) {
        reader.wrong("name", "the root block has `name: global`");
    }
    let run_inputs = reader.list("inputs").iter().filter_map(|input| reader.run_input(input)).collect();
    reader.unique("inputs", &run_inputs, |input: &Input| &input.name);
    let outputs = reader.values("outputs");
    let blocks = reader.list("blocks");
    if reader.get("blocks").is_none() {
        reader.wrong("blocks", "`blocks` is missing: the list of blocks");
    }
    let members = blocks.iter().filter_map(|block| member(block, &Names::root(), faults)).collect();
    let (name, full_name) = (GLOBAL.to_owned(), GLOBAL.to_owned());
    Module { name, full_name, line: tree.line, run_inputs, members, outputs, ..Module::default() }
}

fn member(tree: &Tree, within: &Names, faults: &mut Faults) -> Option<Member> {
    let around = within.shown();
    let Node::Map(entries) = tree.node() else {
        faults.add(around, tree.line, "a block is a mapping: name, type, …");
        return None;
    };
    let mut reader = Reader { block: around.to_owned(), line: tree.line, entries, faults };
    let name = reader.own_name()?;
    let full_name = within.with(&name);
    reader.block.clone_from(&full_name);
    let renamed_from = reader.renamed_from(within);
    let names = within.inner(&name, &renamed_from);
    match reader.text("type") {
        Some("module") => {
            reader.known(&["name", "type", "description", "renamed_from", "inputs", "blocks", "outputs"]);
            let (inputs, outputs) = (reader.values("inputs"), reader.values("outputs"));
            let blocks = reader.list("blocks");
            let members = blocks.iter().filter_map(|block| member(block, &names, faults)).collect();
            let (line, run_inputs) = (tree.line, Vec::new());
            Some(Member::Module(Module {
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
            let mut block = reader.integration_block(name, full_name)?;
            (block.renamed_from, block.former) = (renamed_from, names.former);
            Some(Member::Block(block))
        }
        _ => {
            reader.wrong("type", "`type` is `integration` or `module`");
            None
        }
    }
}

/// The first reference anywhere in a value in which references mean nothing.
fn reference_in(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => expression::mentioned(text),
        Json::Array(items) => items.iter().find_map(reference_in),
        Json::Object(map) => {
            map.iter().find_map(|(key, value)| expression::mentioned(key).or_else(|| reference_in(value)))
        }
        _ => None,
    }
}

impl<'t> Reader<'t, '_> {
    fn get(&self, key: &str) -> Option<&'t Tree> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn wrong(&mut self, key: &str, reason: impl Into<String>) {
        let line = self.get(key).map_or(self.line, |tree| tree.line);
        self.at(line, reason);
    }

    fn at(&mut self, line: u32, reason: impl Into<String>) {
        self.faults.add(&self.block, line, reason);
    }

    fn known(&mut self, keys: &[&str]) {
        for (key, value) in self.entries {
            if !keys.contains(&key.as_str()) {
                self.faults.add_with(&self.block, value.line, || {
                    let shown: String = key.chars().take(80).collect();
                    let near = suggestion(&shown, keys.iter().copied());
                    format!("unknown key `{shown}`{near} (allowed: {})", listed(keys.iter().copied()))
                });
            }
        }
    }

    fn text(&self, key: &str) -> Option<&'t str> {
        match self.get(key)?.node() {
            Node::Scalar(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    fn own_name(&mut self) -> Option<String> {
        match self.text("name") {
            Some(GLOBAL) => self.wrong("name", "the name `global` is the root's"),
            Some(name) if is_name(name) => return Some(name.to_owned()),
            Some(name) => {
                let shown: String = name.chars().take(80).collect();
                self.wrong("name", format!("`{shown}` is no name (allowed: {})", names::ALLOWED));
            }
            None if self.get("name").is_some() => self.wrong("name", "the name must be a text"),
            None => self.wrong("name", "the block has no name"),
        }
        None
    }

    /// The items of a list; none if it is missing or null.
    fn list(&mut self, key: &str) -> &'t [Tree] {
        match self.get(key).map(Tree::node) {
            None | Some(Node::Scalar(Json::Null)) => &[],
            Some(Node::List(items)) => items,
            Some(_) => {
                self.wrong(key, format!("`{key}` must be a list"));
                &[]
            }
        }
    }

    fn unique<T>(&mut self, key: &str, items: &Vec<T>, name: impl Fn(&T) -> &String) {
        let mut seen = std::collections::HashSet::new();
        for item in items {
            if !seen.insert(name(item)) {
                self.wrong(key, format!("`{key}` has `{}` twice", name(item)));
            }
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        match self.get(key).map(Tree::node) {
            None | Some(Node::Scalar(Json::Null)) => None,
            Some(Node::Scalar(Json::Bool(flag))) => Some(*flag),
            Some(_) => {
                self.wrong(key, format!("`{key}` is true or false"));
                None
            }
        }
    }

    /// Former names, in full: a name alone is one beside this block, `global.x` one at the root, any other with dots as runs
    /// show it.
    fn renamed_from(&mut self, within: &Names) -> Vec<String> {
        let texts: Vec<&Tree> = match self.get("renamed_from").map(|tree| (tree, tree.node())) {
            None | Some((_, Node::Scalar(Json::Null))) => return Vec::new(),
            Some((_, Node::List(items))) => items.iter().collect(),
            Some((tree, _)) => vec![tree],
        };
        let mut names = Vec::new();
        for tree in texts.into_iter().take(MOST_FORMER) {
            match tree.node() {
                Node::Scalar(Json::String(text)) if text.split('.').all(is_name) && text != GLOBAL => {
                    names.push(match text.strip_prefix("global.") {
                        Some(at_root) => at_root.to_owned(),
                        None if text.contains('.') => text.clone(),
                        None => within.with(text),
                    });
                }
                _ => self
                    .at(tree.line, "`renamed_from` is the name that the block had, or a list of such names"),
            }
        }
        names
    }

    /// An item of a list of named things.
    fn named<'r>(&'r mut self, item: &'t Tree, keys: &[&str]) -> Option<(String, Reader<'t, 'r>)> {
        let Node::Map(entries) = item.node() else {
            self.at(item.line, format!("must be a mapping of {}", listed(keys.iter().copied())));
            return None;
        };
        let mut reader =
            Reader { block: self.block.clone(), line: item.line, entries, faults: &mut *self.faults };
        reader.known(keys);
        let name = match reader.text("name") {
            Some(name) if is_name(name) => name.to_owned(),
            _ => {
                reader
                    .wrong("name", format!("a name is missing or not allowed (allowed: {})", names::ALLOWED));
                return None;
            }
        };
        Some((name, reader))
    }

    fn run_input(&mut self, item: &'t Tree) -> Option<Input> {
        let (name, mut reader) =
            self.named(item, &["name", "description", "scope", "required", "default", "type"])?;
        let scope = match reader.text("scope") {
            Some("general") => Scope::General,
            Some("env") => Scope::Env,
            None if reader.get("scope").is_none() => Scope::General,
            _ => {
                reader.wrong("scope", "`scope` is `general` or `env`");
                return None;
            }
        };
        let default = reader.get("default").map(Tree::to_json);
        if let Some(reference) = default.as_ref().and_then(reference_in) {
            reader.wrong("default", format!("`{reference}`: a default is a plain value, without references"));
        }
        let required = reader.flag("required").unwrap_or(false);
        Some(Input { name, scope, required, default })
    }

    /// Named values: `{name, value}`.
    fn values(&mut self, key: &str) -> Vec<Value> {
        let mut values = Vec::new();
        for item in self.list(key) {
            let Some((name, mut reader)) = self.named(item, &["name", "value", "description"]) else {
                continue;
            };
            let Some(tree) = reader.get("value") else {
                reader.wrong("value", format!("`{name}` has no `value`"));
                continue;
            };
            let value = expression::read(tree, &mut |line, reason| reader.at(line, reason));
            values.push(Value { name, value });
        }
        self.unique(key, &values, |value| &value.name);
        values
    }

    fn integration_block(&mut self, name: String, full_name: String) -> Option<Written> {
        self.known(&[
            "name",
            "type",
            "description",
            "integration",
            "inputs",
            "outputs",
            "args",
            "cache",
            "block_timeout",
            "version",
            "renamed_from",
        ]);
        let Some((queue, task)) = self.text("integration").and_then(names::integration) else {
            self.wrong(
                "integration",
                "`integration` is `<queue name>.<task type>`, such as balance.set_service",
            );
            return None;
        };
        let args = match self.get("args").map(|args| (args, args.node())) {
            None | Some((_, Node::Scalar(Json::Null))) => {
                Expression::Literal(Json::Object(Default::default()))
            }
            Some((args, Node::Map(_))) => expression::read(args, &mut |line, reason| self.at(line, reason)),
            Some(_) => {
                self.wrong("args", "`args` must be a mapping");
                return None;
            }
        };
        let inputs = self.inputs();
        let outputs = self.outputs();
        let cache = self.flag("cache").unwrap_or(false);
        let (timeout, version) = (self.timeout(), self.version());
        let (queue, task) = (queue.to_owned(), task.to_owned());
        let (line, renamed_from, former) = (self.line, Vec::new(), Vec::new());
        Some(Written {
            name,
            full_name,
            renamed_from,
            former,
            line,
            queue,
            task,
            inputs,
            outputs,
            args,
            cache,
            timeout,
            version,
        })
    }

    fn inputs(&mut self) -> Vec<Reference> {
        let mut inputs = Vec::new();
        for item in self.list("inputs") {
            let reference = match item.node() {
                Node::Scalar(Json::String(text)) => expression::whole(text, item.line),
                _ => None,
            };
            match reference {
                Some(reference) => inputs.push(reference),
                None => self.at(item.line, "an input is `block.output`, such as global.id"),
            }
        }
        inputs
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        for item in self.list("outputs") {
            match item.node() {
                Node::Scalar(Json::String(name)) if is_name(name) => outputs.push(name.clone()),
                _ => outputs.extend(self.named(item, &["name", "description", "type"]).map(|(name, _)| name)),
            }
        }
        self.unique("outputs", &outputs, |name| name);
        outputs
    }

    fn timeout(&mut self) -> Option<Duration> {
        let parsed = match self.get("block_timeout")?.node() {
            Node::Scalar(Json::Number(seconds)) => {
                seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            }
            Node::Scalar(Json::String(text)) => humantime::parse_duration(text).ok(),
            Node::Scalar(Json::Null) => return None,
            _ => None,
        };
        let allowed = parsed.filter(|time| !time.is_zero() && *time <= Duration::from_secs(7 * 86_400));
        if allowed.is_none() {
            self.wrong(
                "block_timeout",
                "`block_timeout` is a number of seconds, or a time such as 90s or 5m, of at most 7 days",
            );
        }
        allowed
    }

    fn version(&mut self) -> Option<String> {
        let version = self.get("version")?;
        match version.node() {
            Node::Scalar(Json::String(text)) => {
                if let Some(reference) = expression::mentioned(text) {
                    self.wrong("version", format!("`{reference}`: a version is plain, without references"));
                }
                Some(text.clone())
            }
            // 1.10 is another version than 1.1.
            Node::Scalar(value @ Json::Number(_)) => {
                Some(version.written().map_or_else(|| value.to_string(), str::to_owned))
            }
            Node::Scalar(Json::Null) => None,
            _ => {
                self.wrong("version", "`version` is a text or a number");
                None
            }
        }
    }
}
