//! Which of flag, environment, file and default holds.

use std::collections::BTreeMap;
use std::fmt;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::secret::{MASK, Secret, without_credentials};
use crate::{Program, Setting, SettingError};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This file.
    File(String),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "file {path}"),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Value {
    text: Secret,
    /// Where it came from.
    pub from: Source,
    shown: String,
}

impl Value {
    /// As written.
    pub fn text(&self) -> &str {
        self.text.reveal()
    }

    /// The value as it may be shown: secrets are masked, and user and password in any URL.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// A program's effective settings.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    values: BTreeMap<&'static str, Value>,
    warnings: Vec<String>,
}

impl Resolved {
    /// Resolves all settings of `program`: the flags in `matches`, the given environment, the file of `--config`.
    pub fn new(
        program: &Program,
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingError> {
        let mut resolved = Self::default();
        for setting in program.settings() {
            if let Some(default) = setting.default {
                resolved.set(setting, default.to_owned(), Source::Default);
            }
        }
        let environment = resolved.read_environment(program, environment);
        let flags = flags(program, matches);
        let config = flags.iter().chain(&environment).find(|(setting, ..)| setting.name == "config");
        if let Some((_, path, _)) = config {
            resolved.read_file(program, path)?;
        }
        for (setting, text, from) in environment.into_iter().chain(flags) {
            resolved.set(setting, text, from);
        }
        Ok(resolved)
    }

    /// The value of a setting, if it has one.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Gives a setting a default that only the program can work out.
    pub fn default_to(&mut self, setting: &Setting, text: String) {
        if !self.values.contains_key(setting.name) {
            self.set(setting, text, Source::Default);
        }
    }

    /// Every setting that has a value, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }

    /// What deserves a warning but no refusal: environment variables that look like ours and are not.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn set(&mut self, setting: &Setting, text: String, from: Source) {
        let shown = if setting.secret { MASK.to_owned() } else { without_credentials(&text) };
        self.values.insert(setting.name, Value { text: Secret::new(text), from, shown });
    }

    fn read_environment(
        &mut self,
        program: &Program,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<(&'static Setting, String, Source)> {
        let mut found = Vec::new();
        for (variable, text) in environment {
            let Some(ending) = variable.strip_prefix(program.env_prefix) else { continue };
            // Kubernetes sets PREFIX_PORT, PREFIX_SERVICE_HOST and the like for a service of this name.
            if ending == "PORT" || ending.starts_with("PORT_") || ending.starts_with("SERVICE_") {
                continue;
            }
            let name = ending.to_lowercase().replace('_', "-");
            // Empty is how scripts and compose files write "not set".
            if text.is_empty() {
                continue;
            }
            match program.settings().find(|setting| setting.name == name) {
                Some(setting) => found.push((setting, text, Source::Environment(variable))),
                None => {
                    let near = nearest(program, &name).map(|near| {
                        format!(
                            ", did you mean {}{}?",
                            program.env_prefix,
                            near.to_uppercase().replace('-', "_")
                        )
                    });
                    self.warnings
                        .push(format!("unknown environment variable {variable}{}", near.unwrap_or_default()));
                }
            }
        }
        found
    }

    fn read_file(&mut self, program: &Program, path: &str) -> Result<(), SettingError> {
        let failed = |reason: String| SettingError::File { file: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        // The parser's own words would show the line, which may hold a secret.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            failed(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
        })?;
        for (key, value) in table {
            let name = key.replace('_', "-");
            let Some(setting) = program.settings().find(|setting| setting.name == name) else {
                return Err(SettingError::UnknownKey {
                    file: path.to_owned(),
                    nearest: nearest(program, &name),
                    key,
                });
            };
            let text = plain(&value)
                .ok_or_else(|| failed(format!("`{key}` must be a text, number, boolean or list")))?;
            self.set(setting, text, Source::File(path.to_owned()));
        }
        Ok(())
    }
}

fn flags(program: &Program, matches: &ArgMatches) -> Vec<(&'static Setting, String, Source)> {
    let given = |name| matches!(matches.value_source(name), Some(ValueSource::CommandLine));
    let of = |setting: &'static Setting| {
        let text = if setting.is_switch() {
            matches.get_flag(setting.name).to_string()
        } else {
            matches.get_one::<String>(setting.name).cloned().unwrap_or_default()
        };
        (setting, text, Source::Flag)
    };
    program.settings().filter(|setting| given(setting.name)).map(of).collect()
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(plain).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

/// Longest name for which a near one is looked for, in bytes.
const MAX_MISTYPED: usize = 100;

fn nearest(program: &Program, name: &str) -> Option<&'static str> {
    if name.len() > MAX_MISTYPED {
        return None;
    }
    let by_distance =
        program.settings().map(|setting| (strsim::damerau_levenshtein(setting.name, name), setting));
    let (distance, setting) = by_distance.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / 3 + 1).then_some(setting.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    const PROGRAM: Program = Program {
        name: "shop",
        env_prefix: "SHOP_",
        groups: &[Group {
            title: "All",
            settings: &[
                Setting::new("config", "FILE", "file"),
                Setting::new("app-port", "PORT", "port").or("1"),
                Setting::new("token", "TEXT", "secret").secret(),
                Setting::new("token-file", "FILE", "a file with it"),
                Setting::switch("quiet", "switch"),
            ],
        }],
    };

    fn resolve(args: &[&str], environment: &[(&str, &str)]) -> Result<Resolved, SettingError> {
        let line = std::iter::once("shop").chain(args.iter().copied()).map(Into::into);
        let command = crate::with_settings(clap::Command::new("shop"), &PROGRAM, &[]);
        let matches = command.try_get_matches_from(crate::normalise(line)).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Resolved::new(&PROGRAM, &matches, environment)
    }

    #[test]
    fn the_nearer_source_wins_and_is_remembered() {
        let file = std::env::temp_dir().join(format!("settings-{}.toml", std::process::id()));
        std::fs::write(&file, "app_port = 2\ntoken = \"from file\"").unwrap();
        let config = file.to_str().unwrap();
        let port = |args: &[&str], env: &[(&str, &str)]| {
            let value = resolve(args, env).unwrap().value("app-port").unwrap().clone();
            (value.text().to_owned(), value.from)
        };
        assert_eq!(port(&[], &[]), ("1".into(), Source::Default));
        assert_eq!(port(&["--config", config], &[]), ("2".into(), Source::File(config.into())));
        let env = [("SHOP_APP_PORT", "3"), ("SHOP_CONFIG", config)];
        assert_eq!(port(&[], &env), ("3".into(), Source::Environment("SHOP_APP_PORT".into())));
        assert_eq!(port(&["-app_port=4"], &env), ("4".into(), Source::Flag));
        assert_eq!(port(&["--app-port", "5"], &env), ("5".into(), Source::Flag));
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn an_unknown_file_key_is_refused_with_the_nearest() {
        let file = std::env::temp_dir().join(format!("settings-bad-{}.toml", std::process::id()));
        std::fs::write(&file, "app-prot = 2").unwrap();
        let error = resolve(&["--config", file.to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(error.ends_with("unknown key `app-prot`, did you mean `app-port`?"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn kubernetes_variables_are_never_read_and_others_only_warn() {
        let resolved =
            resolve(&[], &[("SHOP_PORT", "tcp://1"), ("SHOP_SERVICE_HOST", "x"), ("SHOP_APP_PROT", "9")])
                .unwrap();
        assert_eq!(resolved.value("app-port").unwrap().text(), "1");
        assert_eq!(
            resolved.warnings(),
            ["unknown environment variable SHOP_APP_PROT, did you mean SHOP_APP_PORT?"]
        );
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        let empty = ["SHOP_APP_PORT", "SHOP_TOKEN", "SHOP_CONFIG", "SHOP_QUIET"].map(|name| (name, ""));
        let resolved = resolve(&[], &empty).unwrap();
        assert_eq!(resolved.value("app-port").unwrap().from, Source::Default);
        assert!(resolved.value("token").is_none() && !resolved.switch("quiet").unwrap());
        assert!(resolved.secret("token", "token-file").unwrap().is_none());
    }

    #[test]
    fn secrets_are_never_shown() {
        let resolved = resolve(&["--token", "canary"], &[]).unwrap();
        assert_eq!(resolved.value("token").unwrap().shown(), "********");
        let error = resolved.required::<u32>("token").unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
        assert!(!format!("{resolved:?}").contains("canary"));
        let refused = resolve(&["--token-file", "http://u:canary@h/x"], &[]).unwrap();
        assert_eq!(refused.value("token-file").unwrap().shown(), "http://********@h/x");
    }

    #[test]
    fn a_secret_comes_from_its_setting_or_from_a_file_but_not_from_both() {
        let token = |args: &[&str]| resolve(args, &[]).unwrap().secret("token", "token-file");
        assert!(token(&[]).unwrap().is_none());
        assert_eq!(token(&["--token", "canary"]).unwrap().unwrap().reveal(), "canary");
        let both = token(&["--token", "canary", "--token-file", "x"]).unwrap_err().to_string();
        assert!(both.contains("--token-file") && !both.contains("canary"), "{both}");
    }

    #[test]
    fn a_file_that_does_not_parse_is_refused_without_its_lines() {
        let file = std::env::temp_dir().join(format!("settings-torn-{}.toml", std::process::id()));
        std::fs::write(&file, "app_port = 2\ntoken = \"canary").unwrap();
        let error = resolve(&["--config", file.to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("canary"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn switches_come_from_everywhere() {
        assert!(resolve(&["--quiet"], &[]).unwrap().switch("quiet").unwrap());
        assert!(resolve(&[], &[("SHOP_QUIET", "true")]).unwrap().switch("quiet").unwrap());
        assert!(!resolve(&[], &[]).unwrap().switch("quiet").unwrap());
        assert!(resolve(&[], &[("SHOP_QUIET", "maybe")]).unwrap().switch("quiet").is_err());
    }
}
