//! The command line: flags made from the table of settings, old spellings, and errors of one line.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::Program;

/// A flag for each setting, accepted by the command and all its subcommands.
pub fn args(program: &Program) -> Vec<Arg> {
    let arg = |setting: &crate::Setting| {
        let env = format!("{}{}", program.env_prefix, setting.name.to_uppercase().replace('-', "_"));
        let default = setting.default.map(|value| format!("default {value}, ")).unwrap_or_default();
        let arg = Arg::new(setting.name)
            .long(setting.name)
            .global(true)
            .help(format!("{} [{default}env {env}]", setting.help))
            .help_heading("Settings");
        if setting.is_switch() {
            arg.action(ArgAction::SetTrue)
        } else {
            arg.value_name(setting.value).allow_hyphen_values(true)
        }
    };
    program.settings.iter().map(arg).collect()
}

/// Respells the flags of older scripts: `-data_manager_address x`, `-app_port=1` and `--app_port` become kebab-case
/// with two dashes. Single letters (`-h`), numbers (`-3`) and everything after `--` stay as they are.
pub fn normalise(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut verbatim = false;
    let respell = |arg: OsString| {
        verbatim = verbatim || arg == "--";
        let Some(text) = arg.to_str().filter(|text| !verbatim && text.starts_with('-')) else { return arg };
        let (flag, value) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
        let name = flag.trim_start_matches('-');
        if name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return arg;
        }
        let flag = format!("--{}", name.replace('_', "-"));
        value.map_or_else(|| flag.clone(), |value| format!("{flag}={value}")).into()
    };
    line.into_iter().map(respell).collect()
}

/// Parses the process's command line; prints help or one line of complaint and exits (0, 2) where that is the answer.
pub fn parse(command: Command) -> ArgMatches {
    match command.try_get_matches_from(normalise(std::env::args_os())) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            eprintln!("{}", one_line(&error));
            std::process::exit(2);
        }
    }
}

/// A complaint about the command line as one line: what is wrong, and the nearest that is right.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let telling = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let telling: Vec<&str> =
        telling.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    telling.join("; ") + " (see --help)"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn respelled(arg: &str) -> String {
        normalise([arg.into()]).remove(0).into_string().unwrap()
    }

    #[test]
    fn old_spellings_become_kebab_case() {
        assert_eq!(respelled("-data_manager_address"), "--data-manager-address");
        assert_eq!(respelled("-app_port=8085"), "--app-port=8085");
        assert_eq!(respelled("--app_port"), "--app-port");
        assert_eq!(respelled("--data-dir=/a_b"), "--data-dir=/a_b");
    }

    #[test]
    fn values_and_short_flags_stay() {
        for arg in ["-3:9", "-2147483648", "-h", "-", "process", "a_b"] {
            assert_eq!(respelled(arg), arg);
        }
    }
}
