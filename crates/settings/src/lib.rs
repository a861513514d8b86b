//! Settings of a program, declared once as a table: from a flag, else the environment, else a TOML file, else a
//! default, each remembered with where it came from.
//!
//! Flags are spelled `--kebab-case`; the single-dash and snake_case spellings of older scripts
//! (`-data_manager_address`) mean the same.

mod commandline;
mod page;
mod resolve;
mod secret;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

pub use commandline::{normalise, one_line, parse, shown_args, with_settings};
pub use page::page;
pub use resolve::{Resolved, Source, Value};
pub use secret::Secret;

/// One setting of a program.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Kebab-case: the flag without its dashes; upper-cased with underscores, the environment variable's ending.
    pub name: &'static str,
    /// The value's name in help texts, with its unit if it has one; empty for a switch.
    pub value: &'static str,
    /// What holds if nobody says otherwise.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
}

impl Setting {
    /// A setting without default.
    pub const fn new(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, default: None, help, secret: false }
    }

    /// A switch: off unless given.
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, value: "", default: None, help, secret: false }
    }

    /// With a default.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Never shown by `config print`.
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

/// Settings that belong together, as they are listed.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// In the order in which they are listed.
    pub settings: &'static [Setting],
}

/// A program and its settings.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// As in `order_service`.
    pub name: &'static str,
    /// As in `ORDER_SERVICE_`.
    pub env_prefix: &'static str,
    /// All settings.
    pub groups: &'static [Group],
}

impl Program {
    /// All settings, in the order of their groups.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.groups.iter().flat_map(|group| group.settings)
    }

    /// The environment variable of a setting.
    pub fn variable(&self, setting: &Setting) -> String {
        format!("{}{}", self.env_prefix, setting.name.to_uppercase().replace('-', "_"))
    }
}

/// What is wrong with a setting; each says where the value came from.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// A file key that no setting has.
    #[error("{file}: unknown key `{key}`{}", suggestion(.nearest))]
    UnknownKey {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// The most similar known key.
        nearest: Option<&'static str>,
    },
    /// The file cannot be used.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A value that does not parse or is out of range.
    #[error("--{name} ({from}): {reason}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// Where the value came from.
        from: Source,
        /// What is allowed.
        reason: String,
    },
    /// A setting that must be given and is not.
    #[error("--{0} is needed")]
    Missing(&'static str),
}

fn suggestion(nearest: &Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

impl Resolved {
    /// The parsed value, or `None` if it was not given and has no default.
    pub fn optional<T>(&self, name: &'static str) -> Result<Option<T>, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(value) = self.value(name) else { return Ok(None) };
        let parsed = value.text().trim().parse::<T>();
        parsed.map(Some).map_err(|error| self.invalid(name, format!("`{}`: {error}", value.shown())))
    }

    /// The parsed value.
    pub fn required<T>(&self, name: &'static str) -> Result<T, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.optional(name)?.ok_or(SettingError::Missing(name))
    }

    /// The parsed value, which must lie in `range`.
    pub fn within<T>(&self, name: &'static str, range: std::ops::RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + Display,
        T::Err: Display,
    {
        let value: T = self.required(name)?;
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.invalid(name, format!("{value} is not between {} and {}", range.start(), range.end())))
    }

    /// A duration such as `200ms`, `2s` or `24h`.
    pub fn duration(&self, name: &'static str) -> Result<Duration, SettingError> {
        let value = self.value(name).ok_or(SettingError::Missing(name))?;
        humantime::parse_duration(value.text().trim()).map_err(|error| {
            self.invalid(name, format!("`{}`: {error} (such as 200ms, 2s, 24h)", value.shown()))
        })
    }

    /// Whether a switch is on.
    pub fn switch(&self, name: &'static str) -> Result<bool, SettingError> {
        match self.value(name).map(Value::text) {
            None | Some("false" | "0" | "") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(self.invalid(name, format!("`{other}` is neither true nor false"))),
        }
    }

    /// A secret: what the setting `name` says, or what is in the file that the setting `file_name` names.
    pub fn secret(
        &self,
        name: &'static str,
        file_name: &'static str,
    ) -> Result<Option<Secret>, SettingError> {
        match (self.value(name), self.value(file_name)) {
            (Some(_), Some(_)) => {
                Err(self.invalid(file_name, format!("--{name} is given too: one is enough")))
            }
            (Some(value), None) => Ok(Some(Secret::new(value.text().trim().to_owned()))),
            (None, Some(file)) => secret::read_secret_file(file.text())
                .map(Some)
                .map_err(|reason| self.invalid(file_name, reason)),
            (None, None) => Ok(None),
        }
    }

    /// The items of a comma-separated list.
    pub fn list(&self, name: &'static str) -> Vec<String> {
        let text = self.value(name).map(Value::text).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// The error that says why this setting's value cannot be used.
    pub fn invalid(&self, name: &'static str, reason: String) -> SettingError {
        let from = self.value(name).map_or(Source::Default, |value| value.from.clone());
        SettingError::Invalid { name, from, reason }
    }
}
