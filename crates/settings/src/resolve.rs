//! Precedence of sources: flag, environment, file, default.

use std::collections::BTreeMap;
use std::fmt;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::secret::{SECRET_MASK, Secret, mask_url_credentials};
use crate::{ProgramSettings, Setting, SettingError};

/// Source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// A flag on the command line.
    Flag,
    /// Environment variable of this name.
    Environment(String),
    /// Settings file of this path.
    File(String),
    /// Default; no source sets the value.
    Default,
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingSource::Flag => f.write_str("flag"),
            SettingSource::Environment(name) => write!(f, "environment {name}"),
            SettingSource::File(path) => write!(f, "file {path}"),
            SettingSource::Default => f.write_str("default"),
        }
    }
}

/// A value and its source.
#[derive(Debug, Clone)]
pub struct SettingValue {
    text: Secret,
    /// Source that set the value.
    pub source: SettingSource,
    masked_text: String,
}

impl SettingValue {
    /// Value as written, also of secrets.
    pub fn text(&self) -> &str {
        self.text.reveal()
    }

    /// Displayable value: secrets are masked, as are user and password in URLs.
    pub fn masked_text(&self) -> &str {
        &self.masked_text
    }
}

/// Effective settings of a program.
#[derive(Debug, Clone, Default)]
pub struct ResolvedSettings {
    values: BTreeMap<&'static str, SettingValue>,
    warnings: Vec<String>,
}

impl ResolvedSettings {
    /// Resolves all settings of `program` from the flags in `matches`, the environment and the file
    /// of `--config`.
    pub fn new(
        program: &ProgramSettings,
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingError> {
        let mut resolved = Self::default();
        for setting in program.settings() {
            if let Some(default) = setting.default {
                resolved.set_value(setting, default.to_owned(), SettingSource::Default);
            }
        }
        let environment = resolved.read_environment(program, environment);
        let flags = read_flags(program, matches);
        let config =
            flags.iter().chain(&environment).find(|(setting, ..)| setting.name == "config");
        if let Some((_, path, _)) = config {
            resolved.read_file(program, path)?;
        }
        for (setting, text, from) in environment.into_iter().chain(flags) {
            resolved.set_value(setting, text, from);
        }
        Ok(resolved)
    }

    /// Value of a setting, if any source or a default sets it.
    pub fn get_value(&self, name: &str) -> Option<&SettingValue> {
        self.values.get(name)
    }

    /// Sets a default that is only known at run time.
    pub fn set_default(&mut self, setting: &Setting, text: String) {
        if !self.values.contains_key(setting.name) {
            self.set_value(setting, text, SettingSource::Default);
        }
    }

    /// All settings with a value, by name.
    pub fn iter_values(&self) -> impl Iterator<Item = (&'static str, &SettingValue)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }

    /// Warnings: unknown environment variables with the program's prefix.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn set_value(&mut self, setting: &Setting, text: String, from: SettingSource) {
        let masked_text =
            if setting.is_secret { SECRET_MASK.to_owned() } else { mask_url_credentials(&text) };
        self.values.insert(
            setting.name,
            SettingValue { text: Secret::new(text), source: from, masked_text },
        );
    }

    fn read_environment(
        &mut self,
        program: &ProgramSettings,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<(&'static Setting, String, SettingSource)> {
        let mut found = Vec::new();
        for (variable, text) in environment {
            let Some(ending) = variable.strip_prefix(program.env_prefix) else { continue };
            // Kubernetes sets PREFIX_PORT, PREFIX_SERVICE_HOST and the like for a service of this
            // name.
            if ending == "PORT" || ending.starts_with("PORT_") || ending.starts_with("SERVICE_") {
                continue;
            }
            let name = ending.to_lowercase().replace('_', "-");
            // Scripts and compose files set an empty value to mean "not set".
            if text.is_empty() {
                continue;
            }
            match program.settings().find(|setting| setting.name == name) {
                Some(setting) => found.push((setting, text, SettingSource::Environment(variable))),
                None => {
                    let near = nearest_setting_name(program, &name).map(|near| {
                        format!(
                            ", did you mean {}{}?",
                            program.env_prefix,
                            near.to_uppercase().replace('-', "_")
                        )
                    });
                    self.warnings.push(format!(
                        "unknown environment variable {variable}{}",
                        near.unwrap_or_default()
                    ));
                }
            }
        }
        found
    }

    fn read_file(&mut self, program: &ProgramSettings, path: &str) -> Result<(), SettingError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| file_error(path, error.to_string()))?;
        // The parser's full message quotes the line, which may hold a secret.
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            file_error(path, format!("line {line}: {}", error.message()))
        })?;
        for (key, value) in table {
            let name = key.replace('_', "-");
            let Some(setting) = program.settings().find(|setting| setting.name == name) else {
                return Err(SettingError::UnknownKey {
                    file: path.to_owned(),
                    nearest: nearest_setting_name(program, &name),
                    key,
                });
            };
            let text = toml_value_text(&value).ok_or_else(|| {
                file_error(path, format!("`{key}` must be a text, number, boolean or list"))
            })?;
            self.set_value(setting, text, SettingSource::File(path.to_owned()));
        }
        Ok(())
    }
}

fn file_error(path: &str, reason: String) -> SettingError {
    SettingError::File { file: path.to_owned(), reason }
}

fn read_flags(
    program: &ProgramSettings,
    matches: &ArgMatches,
) -> Vec<(&'static Setting, String, SettingSource)> {
    let mut flags = Vec::new();
    for setting in program.settings() {
        if matches.value_source(setting.name) != Some(ValueSource::CommandLine) {
            continue;
        }
        let text = if setting.is_switch() {
            matches.get_flag(setting.name).to_string()
        } else {
            matches.get_one::<String>(setting.name).cloned().unwrap_or_default()
        };
        flags.push((setting, text, SettingSource::Flag));
    }
    flags
}

fn toml_value_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(toml_value_text)
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        _ => None,
    }
}

/// Maximum length in bytes of a name for which a suggestion is computed.
const MAX_MISTYPED_NAME_BYTES: usize = 100;

fn nearest_setting_name(program: &ProgramSettings, name: &str) -> Option<&'static str> {
    if name.len() > MAX_MISTYPED_NAME_BYTES {
        return None;
    }
    let by_distance = program
        .settings()
        .map(|setting| (strsim::damerau_levenshtein(setting.name, name), setting));
    let (distance, setting) = by_distance.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / 3 + 1).then_some(setting.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SettingGroup;

    const PROGRAM: ProgramSettings = ProgramSettings {
        name: "shop",
        env_prefix: "SHOP_",
        groups: &[SettingGroup {
            title: "All",
            settings: &[
                Setting::new("config", "FILE", "file"),
                Setting::new("app-port", "PORT", "port").with_default("1"),
                Setting::new("token", "TEXT", "secret").as_secret(),
                Setting::new("token-file", "FILE", "a file with it"),
                Setting::switch("quiet", "switch"),
            ],
        }],
    };

    fn resolve_settings(
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<ResolvedSettings, SettingError> {
        let line = std::iter::once("shop").chain(args.iter().copied()).map(Into::into);
        let command = crate::add_setting_args(clap::Command::new("shop"), &PROGRAM, &[]);
        let matches = command.try_get_matches_from(crate::normalise_args(line)).unwrap();
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ResolvedSettings::new(&PROGRAM, &matches, environment)
    }

    #[test]
    fn the_nearer_source_wins_and_is_remembered() {
        let file = std::env::temp_dir().join(format!("settings-{}.toml", std::process::id()));
        std::fs::write(&file, "app_port = 2\ntoken = \"from file\"").unwrap();
        let config = file.to_str().unwrap();
        let port = |args: &[&str], env: &[(&str, &str)]| {
            let value = resolve_settings(args, env).unwrap().get_value("app-port").unwrap().clone();
            (value.text().to_owned(), value.source)
        };
        assert_eq!(port(&[], &[]), ("1".into(), SettingSource::Default));
        assert_eq!(
            port(&["--config", config], &[]),
            ("2".into(), SettingSource::File(config.into()))
        );
        let env = [("SHOP_APP_PORT", "3"), ("SHOP_CONFIG", config)];
        assert_eq!(
            port(&[], &env),
            ("3".into(), SettingSource::Environment("SHOP_APP_PORT".into()))
        );
        assert_eq!(port(&["-app_port=4"], &env), ("4".into(), SettingSource::Flag));
        assert_eq!(port(&["--app-port", "5"], &env), ("5".into(), SettingSource::Flag));
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn an_unknown_file_key_is_refused_with_the_nearest() {
        let file = std::env::temp_dir().join(format!("settings-bad-{}.toml", std::process::id()));
        std::fs::write(&file, "app-prot = 2").unwrap();
        let error =
            resolve_settings(&["--config", file.to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(error.ends_with("unknown key `app-prot`, did you mean `app-port`?"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn kubernetes_variables_are_never_read_and_others_only_warn() {
        let resolved = resolve_settings(
            &[],
            &[("SHOP_PORT", "tcp://1"), ("SHOP_SERVICE_HOST", "x"), ("SHOP_APP_PROT", "9")],
        )
        .unwrap();
        assert_eq!(resolved.get_value("app-port").unwrap().text(), "1");
        assert_eq!(
            resolved.warnings(),
            ["unknown environment variable SHOP_APP_PROT, did you mean SHOP_APP_PORT?"]
        );
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        let empty =
            ["SHOP_APP_PORT", "SHOP_TOKEN", "SHOP_CONFIG", "SHOP_QUIET"].map(|name| (name, ""));
        let resolved = resolve_settings(&[], &empty).unwrap();
        assert_eq!(resolved.get_value("app-port").unwrap().source, SettingSource::Default);
        assert!(
            resolved.get_value("token").is_none() && !resolved.is_switched_on("quiet").unwrap()
        );
        assert!(resolved.get_secret("token", "token-file").unwrap().is_none());
    }

    #[test]
    fn secrets_are_never_shown() {
        let resolved = resolve_settings(&["--token", "canary"], &[]).unwrap();
        assert_eq!(resolved.get_value("token").unwrap().masked_text(), "********");
        let error = resolved.get_required::<u32>("token").unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
        assert!(!format!("{resolved:?}").contains("canary"));
        let refused = resolve_settings(&["--token-file", "http://u:canary@h/x"], &[]).unwrap();
        assert_eq!(refused.get_value("token-file").unwrap().masked_text(), "http://********@h/x");
    }

    #[test]
    fn a_secret_comes_from_its_setting_or_from_a_file_but_not_from_both() {
        let token =
            |args: &[&str]| resolve_settings(args, &[]).unwrap().get_secret("token", "token-file");
        assert!(token(&[]).unwrap().is_none());
        assert_eq!(token(&["--token", "canary"]).unwrap().unwrap().reveal(), "canary");
        let both = token(&["--token", "canary", "--token-file", "x"]).unwrap_err().to_string();
        assert!(both.contains("--token-file") && !both.contains("canary"), "{both}");
    }

    #[test]
    fn a_file_that_does_not_parse_is_refused_without_its_lines() {
        let file = std::env::temp_dir().join(format!("settings-torn-{}.toml", std::process::id()));
        std::fs::write(&file, "app_port = 2\ntoken = \"canary").unwrap();
        let error =
            resolve_settings(&["--config", file.to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("canary"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn switches_come_from_everywhere() {
        assert!(resolve_settings(&["--quiet"], &[]).unwrap().is_switched_on("quiet").unwrap());
        assert!(
            resolve_settings(&[], &[("SHOP_QUIET", "true")])
                .unwrap()
                .is_switched_on("quiet")
                .unwrap()
        );
        assert!(!resolve_settings(&[], &[]).unwrap().is_switched_on("quiet").unwrap());
        assert!(
            resolve_settings(&[], &[("SHOP_QUIET", "maybe")])
                .unwrap()
                .is_switched_on("quiet")
                .is_err()
        );
    }
}
