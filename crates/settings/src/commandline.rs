//! Command line: flags generated from the table of settings, old spellings, one-line errors.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::{ProgramSettings, Setting};

/// Adds a global flag for each setting. The help of `command` lists the settings in
/// `visible_names`; that of a subcommand lists those from [`visible_setting_args`].
/// [`render_settings_page`](crate::render_settings_page) lists all.
pub fn add_setting_args(
    command: Command,
    program: &ProgramSettings,
    visible_names: &[&str],
) -> Command {
    let (mut args, mut hidden_args) = (Vec::new(), Vec::new());
    for setting in program.settings() {
        let is_visible = visible_names.contains(&setting.name);
        args.push(setting_arg(setting).hide(!is_visible));
        if is_visible {
            hidden_args.push(setting_arg(setting).hide(true));
        }
    }
    // Subcommands get hidden copies of the visible flags, unless they define one of that name.
    add_hidden_args(command, &hidden_args).args(args)
}

fn add_hidden_args(command: Command, args: &[Arg]) -> Command {
    command.mut_subcommands(|subcommand| {
        let own: Vec<_> = subcommand.get_arguments().map(|arg| arg.get_id().clone()).collect();
        let missing = args.iter().filter(|arg| !own.contains(arg.get_id())).cloned();
        add_hidden_args(subcommand.args(missing), args)
    })
}

/// Flags of the settings that matter to a subcommand: listed by `--help`, but not by the one-screen
/// `-h`. Unknown names are ignored.
pub fn visible_setting_args(program: &ProgramSettings, names: &[&str]) -> Vec<Arg> {
    let mut args = Vec::new();
    for name in names {
        if let Some(setting) = program.settings().find(|setting| setting.name == *name) {
            args.push(setting_arg(setting).hide_short_help(true));
        }
    }
    args
}

fn setting_arg(setting: &Setting) -> Arg {
    let default = setting.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .global(true)
        .help(format!("{}{default}", setting.help))
        .help_heading("Settings");
    if setting.is_switch() {
        arg.action(ArgAction::SetTrue)
    } else {
        arg.value_name(setting.value_name).allow_hyphen_values(true)
    }
}

/// Normalises flags of older scripts: `-data_manager_address x`, `-app_port=1` and `--app_port`
/// become kebab-case with two dashes. Single letters (`-h`), numbers (`-3`) and everything after
/// `--` are unchanged.
pub fn normalise_args(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let (mut normalised, mut is_verbatim) = (Vec::new(), false);
    for arg in args {
        is_verbatim = is_verbatim || arg == "--";
        normalised.push(if is_verbatim { arg } else { normalise_arg(arg) });
    }
    normalised
}

fn normalise_arg(arg: OsString) -> OsString {
    let Some(text) = arg.to_str().filter(|text| text.starts_with('-')) else { return arg };
    let (flag, value) =
        text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(value)));
    let name = flag.trim_start_matches('-');
    if name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return arg;
    }
    let flag = format!("--{}", name.replace('_', "-"));
    match value {
        Some(value) => format!("{flag}={value}").into(),
        None => flag.into(),
    }
}

/// Parses the process's command line. Prints help and exits with 0, or prints a usage error of one
/// line and exits with 2.
pub fn parse_command_line(command: Command) -> ArgMatches {
    match command.try_get_matches_from(normalise_args(std::env::args_os())) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            terminal::print_remark(usage_error_line(&error));
            std::process::exit(2);
        }
    }
}

/// A clap error as one line: the problem, and clap's suggestion.
pub fn usage_error_line(error: &clap::Error) -> String {
    let text = correct_usage_tip(error);
    let telling = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let telling: Vec<&str> =
        telling.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    telling.join("; ") + " (see --help)"
}

/// Corrects clap's tip for a value that looks like a flag: it belongs to the flag before it.
fn correct_usage_tip(error: &clap::Error) -> String {
    let text = error.to_string();
    let Some((before, tip)) = text.split_once("use '-- ") else { return text };
    let Some((value, after)) = tip.split_once('\'') else { return text };
    let line: Vec<String> = normalise_args(std::env::args_os())
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let flag = line
        .windows(2)
        .find(|pair| pair[1] == value && pair[0].starts_with("--") && pair[0].len() > 2);
    match flag.filter(|pair| !pair[0].contains('=')) {
        Some(pair) => format!("{before}use '{}={value}'{after}", pair[0]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ResolvedSettings, SettingGroup};

    const PROGRAM: ProgramSettings = ProgramSettings {
        name: "shop",
        env_prefix: "SHOP_",
        groups: &[
            SettingGroup {
                title: "Ports",
                settings: &[Setting::new("app-port", "PORT", "Port").with_default("1")],
            },
            SettingGroup {
                title: "Data",
                settings: &[Setting::new("data-dir", "DIR", "Where the data is")],
            },
        ],
    };

    fn shop_command() -> Command {
        let list = Command::new("list")
            .args(visible_setting_args(&PROGRAM, &["data-dir", "no-such-setting"]));
        let orders = Command::new("orders").subcommand(list);
        add_setting_args(Command::new("shop").subcommand(orders), &PROGRAM, &["app-port"])
    }

    #[test]
    fn every_command_accepts_every_setting_wherever_it_stands() {
        for line in [
            "shop --app-port 7 --data-dir d orders list",
            "shop orders --data-dir d --app-port 7 list",
            "shop orders list --app-port 7 --data-dir d",
            "shop --app-port 9 orders list --data-dir d --app-port 7",
        ] {
            let matches = shop_command().try_get_matches_from(line.split(' ')).unwrap();
            let list =
                matches.subcommand_matches("orders").unwrap().subcommand_matches("list").unwrap();
            let resolved = ResolvedSettings::new(&PROGRAM, list, []).unwrap();
            let value = |name| resolved.get_value(name).unwrap().text().to_owned();
            assert_eq!(
                (value("app-port"), value("data-dir")),
                ("7".to_owned(), "d".to_owned()),
                "{line}"
            );
        }
    }

    #[test]
    fn help_shows_the_settings_that_matter_to_the_command() {
        let help = |line: &str| {
            shop_command().try_get_matches_from(line.split(' ')).unwrap_err().to_string()
        };
        for (line, shown, hidden) in [
            ("shop --help", "--app-port <PORT>  Port [default: 1]", "--data-dir"),
            (
                "shop orders list --help",
                "--data-dir <DIR>\n          Where the data is",
                "--app-port",
            ),
            ("shop orders list -h", "Options:", "--data-dir"),
        ] {
            let help = help(line);
            assert!(help.contains(shown) && !help.contains(hidden), "{help}");
        }
        let orders = help("shop orders --help");
        assert!(!orders.contains("--app-port") && !orders.contains("--data-dir"), "{orders}");
    }

    fn normalise_arg(arg: &str) -> String {
        normalise_args([arg.into()]).remove(0).into_string().unwrap()
    }

    #[test]
    fn old_spellings_become_kebab_case() {
        assert_eq!(normalise_arg("-data_manager_address"), "--data-manager-address");
        assert_eq!(normalise_arg("-app_port=8085"), "--app-port=8085");
        assert_eq!(normalise_arg("--app_port"), "--app-port");
        assert_eq!(normalise_arg("--data-dir=/a_b"), "--data-dir=/a_b");
    }

    #[test]
    fn values_and_short_flags_stay() {
        for arg in ["-3:9", "-2147483648", "-h", "-", "process", "a_b"] {
            assert_eq!(normalise_arg(arg), arg);
        }
    }
}
