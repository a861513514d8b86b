//! Help page with every setting.

use terminal::{TableBorders, render_table};

use crate::{ProgramSettings, Setting};

/// Renders all settings by group: flag, environment variable, default and help, in `width` columns.
pub fn render_settings_page(program: &ProgramSettings, width: usize) -> String {
    let ProgramSettings { name, env_prefix, groups } = program;
    let mut page = format!(
        "The settings of {name}, accepted by every command: as a flag,\n\
         else from the environment, else from the file of --config (TOML, the names\n\
         without dashes in front), else the default. `{name} config print`\n\
         shows what holds, and where it came from. An unknown {env_prefix}…\n\
         variable is warned about.\n"
    );
    for group in *groups {
        let rows: Vec<Vec<String>> =
            group.settings.iter().flat_map(|setting| setting_rows(program, setting)).collect();
        page.push_str(&format!("\n{}\n", group.title));
        for line in
            render_table(TableBorders::Spaces, &[], &rows, width.saturating_sub(INDENT.len()))
                .lines()
        {
            page.push_str(&format!("{INDENT}{line}\n"));
        }
    }
    page
}

const INDENT: &str = "  ";

fn setting_rows(program: &ProgramSettings, setting: &Setting) -> [Vec<String>; 2] {
    let flag = match setting.value_name {
        "" => format!("--{}", setting.name),
        value => format!("--{} {value}", setting.name),
    };
    let default = match (setting.default, setting.help.contains("[default")) {
        (Some(default), _) => format!("default: {default}"),
        // A computed default is described in the help.
        (None, true) => String::new(),
        (None, false) if setting.is_switch() => "default: off".to_owned(),
        (None, false) => "no default".to_owned(),
    };
    [vec![flag, setting.help.to_owned()], vec![program.environment_variable(setting), default]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SettingGroup;

    const HELP: &str = "What is logged, such as info or shop=debug, in more words than one line of eighty has room for";

    const PROGRAM: ProgramSettings = ProgramSettings {
        name: "shop",
        env_prefix: "SHOP_",
        groups: &[
            SettingGroup {
                title: "Ports",
                settings: &[Setting::new("app-port", "PORT", "Port").with_default("1")],
            },
            SettingGroup {
                title: "Logs",
                settings: &[
                    Setting::new("log-filter", "FILTER", HELP),
                    Setting::switch("quiet", "Log nothing"),
                ],
            },
        ],
    };

    #[test]
    fn every_setting_is_there_in_the_width_there_is() {
        let page = render_settings_page(&PROGRAM, 80);
        let ports = "Ports\n  --app-port PORT  Port\n  SHOP_APP_PORT    default: 1\n";
        for expected in [ports, "SHOP_LOG_FILTER", "no default", "SHOP_QUIET", "default: off"] {
            assert!(page.contains(expected), "{page}");
        }
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
}
