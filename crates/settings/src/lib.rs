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

pub use commandline::{
    add_setting_args, normalise_args, parse_command_line, usage_error_line, visible_setting_args,
};
pub use page::render_settings_page;
pub use resolve::{ResolvedSettings, SettingSource, SettingValue};
pub use secret::Secret;

/// One setting of a program.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Kebab-case: the flag without its dashes; upper-cased with underscores, the environment variable's ending.
    pub name: &'static str,
    /// The value's name in help texts, with its unit if it has one; empty for a switch.
    pub value_name: &'static str,
    /// What holds if nobody says otherwise.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
    /// Whether the value must never be shown.
    pub is_secret: bool,
}

impl Setting {
    /// A setting without default.
    pub const fn new(name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self { name, value_name, default: None, help, is_secret: false }
    }

    /// A switch: off unless given.
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, value_name: "", default: None, help, is_secret: false }
    }

    /// With a default.
    pub const fn with_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Never shown by `config print`.
    pub const fn as_secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }
}

/// Settings that belong together, as they are listed.
#[derive(Debug, Clone, Copy)]
pub struct SettingGroup {
    /// What they are about.
    pub title: &'static str,
    /// In the order in which they are listed.
    pub settings: &'static [Setting],
}

/// A program and its settings.
#[derive(Debug, Clone, Copy)]
pub struct ProgramSettings {
    /// As in `order_service`.
    pub name: &'static str,
    /// As in `ORDER_SERVICE_`.
    pub env_prefix: &'static str,
    /// All settings.
    pub groups: &'static [SettingGroup],
}

impl ProgramSettings {
    /// All settings, in the order of their groups.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.groups.iter().flat_map(|group| group.settings)
    }

    /// The environment variable of a setting.
    pub fn environment_variable(&self, setting: &Setting) -> String {
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
        from: SettingSource,
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

impl ResolvedSettings {
    /// The parsed value, or `None` if it was not given and has no default.
    pub fn get_optional<T>(&self, name: &'static str) -> Result<Option<T>, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(value) = self.get_value(name) else { return Ok(None) };
        let parsed = value.text().trim().parse::<T>();
        parsed.map(Some).map_err(|error| {
            self.invalid_setting(name, format!("`{}`: {error}", value.masked_text()))
        })
    }

    /// The parsed value.
    pub fn get_required<T>(&self, name: &'static str) -> Result<T, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.get_optional(name)?.ok_or(SettingError::Missing(name))
    }

    /// The parsed value, which must lie in `range`.
    pub fn get_in_range<T>(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + Display,
        T::Err: Display,
    {
        let value: T = self.get_required(name)?;
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.invalid_setting(
            name,
            format!("{value} is not between {} and {}", range.start(), range.end()),
        ))
    }

    /// A duration such as `200ms`, `2s` or `24h`.
    pub fn get_duration(&self, name: &'static str) -> Result<Duration, SettingError> {
        let value = self.get_value(name).ok_or(SettingError::Missing(name))?;
        humantime::parse_duration(value.text().trim()).map_err(|error| {
            self.invalid_setting(
                name,
                format!("`{}`: {error} (such as 200ms, 2s, 24h)", value.masked_text()),
            )
        })
    }

    /// Whether a switch is on.
    pub fn is_switched_on(&self, name: &'static str) -> Result<bool, SettingError> {
        match self.get_value(name).map(SettingValue::text) {
            None | Some("false" | "0" | "") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => {
                Err(self.invalid_setting(name, format!("`{other}` is neither true nor false")))
            }
        }
    }

    /// A secret: what the setting `name` says, or what is in the file that the setting `file_name` names.
    pub fn get_secret(
        &self,
        name: &'static str,
        file_name: &'static str,
    ) -> Result<Option<Secret>, SettingError> {
        match (self.get_value(name), self.get_value(file_name)) {
            (Some(_), Some(_)) => {
                Err(self
                    .invalid_setting(file_name, format!("--{name} is given too: one is enough")))
            }
            (Some(value), None) => Ok(Some(Secret::new(value.text().trim().to_owned()))),
            (None, Some(file)) => secret::read_secret_file(file.text())
                .map(Some)
                .map_err(|reason| self.invalid_setting(file_name, reason)),
            (None, None) => Ok(None),
        }
    }

    /// The items of a comma-separated list.
    pub fn get_list(&self, name: &'static str) -> Vec<String> {
        let text = self.get_value(name).map(SettingValue::text).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// The error that says why this setting's value cannot be used.
    pub fn invalid_setting(&self, name: &'static str, reason: String) -> SettingError {
        let from =
            self.get_value(name).map_or(SettingSource::Default, |value| value.source.clone());
        SettingError::Invalid { name, from, reason }
    }
}
