//! Settings of a program, declared in one table. A value comes from a flag, else the environment,
//! else a TOML file, else a default; its source is recorded.
//!
//! Flags are spelled `--kebab-case`; the single-dash and snake_case spellings of older scripts
//! (`-data_manager_address`) are equivalent.

mod commandline;
mod file;
mod page;
mod resolve;
mod secret;

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use commandline::{
    add_setting_args, normalise_args, parse_command_line, usage_error_line, visible_setting_args,
};
pub use file::SettingFile;
pub use page::render_settings_page;
pub use resolve::{ResolvedSettings, SettingSource, SettingValue};
pub use secret::Secret;

/// One setting of a program.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Kebab-case name: the flag without dashes; in upper snake case, the environment variable's
    /// suffix.
    pub name: &'static str,
    /// Placeholder of the value in help texts, with its unit if any; empty for a switch.
    pub value_name: &'static str,
    /// Value if no source sets one.
    pub default: Option<&'static str>,
    /// Help text of one line.
    pub help: &'static str,
    /// Whether the value is masked everywhere.
    pub is_secret: bool,
}

impl Setting {
    /// A setting with a value and without a default.
    pub const fn new(name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self { name, value_name, default: None, help, is_secret: false }
    }

    /// A switch: off unless set.
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, value_name: "", default: None, help, is_secret: false }
    }

    /// Adds a default value.
    pub const fn with_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Masks the value in `config print`.
    pub const fn as_secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }
}

/// Settings listed together under one title.
#[derive(Debug, Clone, Copy)]
pub struct SettingGroup {
    /// Heading in the settings page.
    pub title: &'static str,
    /// Settings in display order.
    pub settings: &'static [Setting],
}

/// A program's table of settings.
#[derive(Debug, Clone, Copy)]
pub struct ProgramSettings {
    /// Program name, such as `order_service`.
    pub name: &'static str,
    /// Prefix of environment variables, such as `ORDER_SERVICE_`.
    pub env_prefix: &'static str,
    /// All groups, in display order.
    pub groups: &'static [SettingGroup],
}

impl ProgramSettings {
    /// All settings, in the order of their groups.
    pub fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.groups.iter().flat_map(|group| group.settings)
    }

    /// Name of a setting's environment variable.
    pub fn environment_variable(&self, setting: &Setting) -> String {
        format!("{}{}", self.env_prefix, setting.name.to_uppercase().replace('-', "_"))
    }
}

/// Error in a setting; each names the source of the value.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Unknown key in the settings file.
    #[error("{file}: unknown key `{key}`{}", suggestion(.nearest))]
    UnknownKey {
        /// Path of the settings file.
        file: String,
        /// The key as written.
        key: String,
        /// Most similar known key, if any.
        nearest: Option<&'static str>,
    },
    /// The settings file is unreadable or invalid.
    #[error("{file}: {reason}")]
    File {
        /// Path of the settings file.
        file: String,
        /// Reason, without the file's content.
        reason: String,
    },
    /// The value does not parse or is out of range.
    #[error("--{name} ({from}): {reason}")]
    Invalid {
        /// Name of the invalid setting.
        name: &'static str,
        /// Source of the value.
        from: SettingSource,
        /// Reason, with the allowed values.
        reason: String,
    },
    /// A required setting is missing.
    #[error("--{0} is needed")]
    Missing(&'static str),
}

fn suggestion(nearest: &Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

impl ResolvedSettings {
    /// Parsed value; `None` if neither set nor defaulted.
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

    /// The file that the setting names; `None` if it names none.
    pub fn get_file(&self, name: &'static str) -> Option<SettingFile> {
        let value = self.get_value(name)?;
        let path = PathBuf::from(value.text().trim());
        Some(SettingFile { name, source: value.source.clone(), path })
    }

    /// Parsed value; an error if missing.
    pub fn get_required<T>(&self, name: &'static str) -> Result<T, SettingError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.get_optional(name)?.ok_or(SettingError::Missing(name))
    }

    /// Parsed value; an error if missing or outside `range`.
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

    /// Parsed duration, such as `200ms`, `2s` or `24h`.
    pub fn get_duration(&self, name: &'static str) -> Result<Duration, SettingError> {
        let value = self.get_value(name).ok_or(SettingError::Missing(name))?;
        humantime::parse_duration(value.text().trim()).map_err(|error| {
            self.invalid_setting(
                name,
                format!("`{}`: {error} (such as 200ms, 2s, 24h)", value.masked_text()),
            )
        })
    }

    /// Whether a switch is on; off by default.
    pub fn is_switched_on(&self, name: &'static str) -> Result<bool, SettingError> {
        match self.get_value(name).map(SettingValue::text) {
            None | Some("false" | "0" | "") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => {
                Err(self.invalid_setting(name, format!("`{other}` is neither true nor false")))
            }
        }
    }

    /// Secret from the setting `name`, or from the file in the setting `file_name`, but not both.
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

    /// Trimmed items of a comma-separated list, without empty ones.
    pub fn get_list(&self, name: &'static str) -> Vec<String> {
        let text = self.get_value(name).map(SettingValue::text).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// Builds an error for this setting's value, with its source.
    pub fn invalid_setting(&self, name: &'static str, reason: String) -> SettingError {
        let from =
            self.get_value(name).map_or(SettingSource::Default, |value| value.source.clone());
        SettingError::Invalid { name, from, reason }
    }
}
