//! Reader of one block's or module's keys. Each mistake is a fault at its line; reading continues.

use std::time::Duration;

use serde_json::Value as Json;
use yaml::{YamlNode, YamlTree, list_names, suggest_name};

use super::expression::{self, BlockReference};
use super::former_names::{BlockNames, MAX_FORMER_NAMES};
use super::names::{self, is_name};
use super::written::{ModuleValue, WrittenBlock};
use super::{BlockTemplateFaults, Expression, ROOT_MODULE_NAME, RunInput, RunInputScope};

/// Parser of one block, with its name for faults.
pub(super) struct BlockReader<'t, 'f> {
    pub(super) block: String,
    pub(super) line: u32,
    pub(super) entries: &'t [(String, YamlTree)],
    pub(super) faults: &'f mut BlockTemplateFaults,
}

/// The first reference anywhere in a JSON value that may contain none.
fn find_json_reference(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => expression::find_reference(text),
        Json::Array(items) => items.iter().find_map(find_json_reference),
        Json::Object(map) => map.iter().find_map(|(key, value)| {
            expression::find_reference(key).or_else(|| find_json_reference(value))
        }),
        _ => None,
    }
}

impl<'t> BlockReader<'t, '_> {
    pub(super) fn get(&self, key: &str) -> Option<&'t YamlTree> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(super) fn fault_at_key(&mut self, key: &str, reason: impl Into<String>) {
        let line = self.get(key).map_or(self.line, |tree| tree.line);
        self.fault_at_line(line, reason);
    }

    pub(super) fn fault_at_line(&mut self, line: u32, reason: impl Into<String>) {
        self.faults.add(&self.block, line, reason);
    }

    pub(super) fn check_known_keys(&mut self, keys: &[&str]) {
        for (key, value) in self.entries {
            if !keys.contains(&key.as_str()) {
                self.faults.add_with(&self.block, value.line, || {
                    let shown: String = key.chars().take(80).collect();
                    let near = suggest_name(&shown, keys.iter().copied());
                    format!(
                        "unknown key `{shown}`{near} (allowed: {})",
                        list_names(keys.iter().copied())
                    )
                });
            }
        }
    }

    pub(super) fn read_text(&self, key: &str) -> Option<&'t str> {
        match self.get(key)?.as_node() {
            YamlNode::Scalar(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn read_own_name(&mut self) -> Option<String> {
        match self.read_text("name") {
            Some(ROOT_MODULE_NAME) => self.fault_at_key("name", "the name `global` is the root's"),
            Some(name) if is_name(name) => return Some(name.to_owned()),
            Some(name) => {
                let shown: String = name.chars().take(80).collect();
                self.fault_at_key(
                    "name",
                    format!("`{shown}` is no name (allowed: {})", names::NAME_RULE),
                );
            }
            None if self.get("name").is_some() => {
                self.fault_at_key("name", "the name must be a text")
            }
            None => self.fault_at_key("name", "the block has no name"),
        }
        None
    }

    /// The items of a list; empty if the key is missing or null.
    pub(super) fn read_list(&mut self, key: &str) -> &'t [YamlTree] {
        match self.get(key).map(YamlTree::as_node) {
            None | Some(YamlNode::Scalar(Json::Null)) => &[],
            Some(YamlNode::List(items)) => items,
            Some(_) => {
                self.fault_at_key(key, format!("`{key}` must be a list"));
                &[]
            }
        }
    }

    pub(super) fn check_unique<T>(
        &mut self,
        key: &str,
        items: &Vec<T>,
        name: impl Fn(&T) -> &String,
    ) {
        let mut seen = std::collections::HashSet::new();
        for item in items {
            if !seen.insert(name(item)) {
                self.fault_at_key(key, format!("`{key}` has `{}` twice", name(item)));
            }
        }
    }

    pub(super) fn read_flag(&mut self, key: &str) -> Option<bool> {
        match self.get(key).map(YamlTree::as_node) {
            None | Some(YamlNode::Scalar(Json::Null)) => None,
            Some(YamlNode::Scalar(Json::Bool(flag))) => Some(*flag),
            Some(_) => {
                self.fault_at_key(key, format!("`{key}` is true or false"));
                None
            }
        }
    }

    /// Former names in full. A simple name is in the same module, `global.x` at the root, any other
    /// name with dots is already in full.
    pub(super) fn read_renamed_from(&mut self, around_names: &BlockNames) -> Vec<String> {
        let texts: Vec<&YamlTree> =
            match self.get("renamed_from").map(|tree| (tree, tree.as_node())) {
                None | Some((_, YamlNode::Scalar(Json::Null))) => return Vec::new(),
                Some((_, YamlNode::List(items))) => items.iter().collect(),
                Some((tree, _)) => vec![tree],
            };
        let mut names = Vec::new();
        for tree in texts.into_iter().take(MAX_FORMER_NAMES) {
            match tree.as_node() {
                YamlNode::Scalar(Json::String(text))
                    if text.split('.').all(is_name) && text != ROOT_MODULE_NAME =>
                {
                    names.push(match text.strip_prefix("global.") {
                        Some(at_root) => at_root.to_owned(),
                        None if text.contains('.') => text.clone(),
                        None => around_names.child_name(text),
                    });
                }
                _ => self.fault_at_line(
                    tree.line,
                    "`renamed_from` is the name that the block had, or a list of such names",
                ),
            }
        }
        names
    }

    /// Parses a mapping with a `name` from a list.
    pub(super) fn read_named_item<'r>(
        &'r mut self,
        item: &'t YamlTree,
        keys: &[&str],
    ) -> Option<(String, BlockReader<'t, 'r>)> {
        let YamlNode::Map(entries) = item.as_node() else {
            self.fault_at_line(
                item.line,
                format!("must be a mapping of {}", list_names(keys.iter().copied())),
            );
            return None;
        };
        let mut reader = BlockReader {
            block: self.block.clone(),
            line: item.line,
            entries,
            faults: &mut *self.faults,
        };
        reader.check_known_keys(keys);
        let name = match reader.read_text("name") {
            Some(name) if is_name(name) => name.to_owned(),
            _ => {
                reader.fault_at_key(
                    "name",
                    format!("a name is missing or not allowed (allowed: {})", names::NAME_RULE),
                );
                return None;
            }
        };
        Some((name, reader))
    }

    pub(super) fn read_run_input(&mut self, item: &'t YamlTree) -> Option<RunInput> {
        let (name, mut reader) = self.read_named_item(
            item,
            &["name", "description", "scope", "required", "default", "type"],
        )?;
        let scope = match reader.read_text("scope") {
            Some("general") => RunInputScope::General,
            Some("env") => RunInputScope::Env,
            None if reader.get("scope").is_none() => RunInputScope::General,
            _ => {
                reader.fault_at_key("scope", "`scope` is `general` or `env`");
                return None;
            }
        };
        let default = reader.get("default").map(YamlTree::to_json);
        if let Some(reference) = default.as_ref().and_then(find_json_reference) {
            reader.fault_at_key(
                "default",
                format!("`{reference}`: a default is a plain value, without references"),
            );
        }
        let required = reader.read_flag("required").unwrap_or(false);
        Some(RunInput { name, scope, required, default })
    }

    /// Parses a list of `{name, value}`.
    pub(super) fn read_values(&mut self, key: &str) -> Vec<ModuleValue> {
        let mut values = Vec::new();
        for item in self.read_list(key) {
            let Some((name, mut reader)) =
                self.read_named_item(item, &["name", "value", "description"])
            else {
                continue;
            };
            let Some(tree) = reader.get("value") else {
                reader.fault_at_key("value", format!("`{name}` has no `value`"));
                continue;
            };
            let value = expression::read_expression(tree, &mut |line, reason| {
                reader.fault_at_line(line, reason)
            });
            values.push(ModuleValue { name, value });
        }
        self.check_unique(key, &values, |value| &value.name);
        values
    }

    pub(super) fn read_integration_block(
        &mut self,
        name: String,
        full_name: String,
    ) -> Option<WrittenBlock> {
        self.check_known_keys(&[
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
        let Some((queue, task)) = self.read_text("integration").and_then(names::split_integration)
        else {
            self.fault_at_key(
                "integration",
                "`integration` is `<queue name>.<task type>`, such as balance.set_service",
            );
            return None;
        };
        let args = match self.get("args").map(|args| (args, args.as_node())) {
            None | Some((_, YamlNode::Scalar(Json::Null))) => {
                Expression::Literal(Json::Object(Default::default()))
            }
            Some((args, YamlNode::Map(_))) => {
                expression::read_expression(args, &mut |line, reason| {
                    self.fault_at_line(line, reason)
                })
            }
            Some(_) => {
                self.fault_at_key("args", "`args` must be a mapping");
                return None;
            }
        };
        let inputs = self.read_inputs();
        let outputs = self.read_outputs();
        let cache = self.read_flag("cache").unwrap_or(false);
        let (timeout, version) = (self.read_timeout(), self.read_version());
        let (queue, task) = (queue.to_owned(), task.to_owned());
        let (line, renamed_from, former) = (self.line, Vec::new(), Vec::new());
        Some(WrittenBlock {
            name,
            full_name,
            renamed_from,
            former_names: former,
            line,
            queue,
            task_type: task,
            inputs,
            outputs,
            args,
            cache,
            timeout,
            version,
        })
    }

    pub(super) fn read_inputs(&mut self) -> Vec<BlockReference> {
        let mut inputs = Vec::new();
        for item in self.read_list("inputs") {
            let reference = match item.as_node() {
                YamlNode::Scalar(Json::String(text)) => {
                    expression::parse_whole_reference(text, item.line)
                }
                _ => None,
            };
            match reference {
                Some(reference) => inputs.push(reference),
                None => {
                    self.fault_at_line(item.line, "an input is `block.output`, such as global.id")
                }
            }
        }
        inputs
    }

    pub(super) fn read_outputs(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        for item in self.read_list("outputs") {
            match item.as_node() {
                YamlNode::Scalar(Json::String(name)) if is_name(name) => outputs.push(name.clone()),
                _ => outputs.extend(
                    self.read_named_item(item, &["name", "description", "type"])
                        .map(|(name, _)| name),
                ),
            }
        }
        self.check_unique("outputs", &outputs, |name| name);
        outputs
    }

    pub(super) fn read_timeout(&mut self) -> Option<Duration> {
        let parsed = match self.get("block_timeout")?.as_node() {
            YamlNode::Scalar(Json::Number(seconds)) => {
                seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            }
            YamlNode::Scalar(Json::String(text)) => humantime::parse_duration(text).ok(),
            YamlNode::Scalar(Json::Null) => return None,
            _ => None,
        };
        let allowed =
            parsed.filter(|time| !time.is_zero() && *time <= Duration::from_secs(7 * 86_400));
        if allowed.is_none() {
            self.fault_at_key(
                "block_timeout",
                "`block_timeout` is a number of seconds, or a time such as 90s or 5m, of at most 7 days",
            );
        }
        allowed
    }

    pub(super) fn read_version(&mut self) -> Option<String> {
        let version = self.get("version")?;
        match version.as_node() {
            YamlNode::Scalar(Json::String(text)) => {
                if let Some(reference) = expression::find_reference(text) {
                    self.fault_at_key(
                        "version",
                        format!("`{reference}`: a version is plain, without references"),
                    );
                }
                Some(text.clone())
            }
            // Keeps the written number: 1.10 is another version than 1.1.
            YamlNode::Scalar(value @ Json::Number(_)) => {
                Some(version.number_text().map_or_else(|| value.to_string(), str::to_owned))
            }
            YamlNode::Scalar(Json::Null) => None,
            _ => {
                self.fault_at_key("version", "`version` is a text or a number");
                None
            }
        }
    }
}
