//! Command-line definition (clap).

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  bench list                       what can be measured
  bench quick                      the daily subset, in about two minutes
  bench run O1 L1                  two rows, as thoroughly as for the documentation
  bench run O1 --quick             one row, one short window
  bench run --all --output json    everything but the long rows, for programs
  bench run --long                 the long rows: Q3, S2, S3

Exit codes: 0 everything was measured (whatever the verdicts), 1 a row failed, 2 wrong usage.";

/// The `bench` command with its subcommands.
pub(super) fn build_command() -> Command {
    Command::new("bench")
        .about("Measures the platform against the limits of this machine")
        .long_about(
            "Measures the platform against the limits of this machine.\n\nStarts the release builds of both services \
             with fresh data on free ports of this machine, loads them, verifies that everything acknowledged is there, \
             and stops them again. Nothing but a folder for temporary data is touched.",
        )
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Shows what can be measured, and what is to be reached"))
        .subcommand(run_subcommand())
        .subcommand(with_common_args(Command::new("quick").about("Runs the daily subset in about two minutes")))
        .subcommand(
            Command::new("show").about("Shows the results that were kept").arg(results_arg()).arg(output_arg()),
        )
}

fn run_subcommand() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    let names = Arg::new("names")
        .value_name("NAME")
        .num_args(1..)
        .help("Rows, such as O1 L4 (see bench list)");
    with_common_args(Command::new("run").about("Runs rows by name, or --all, or --long"))
        .arg(names.required_unless_present_any(["all", "long"]))
        .arg(switch("all", "All rows but the long ones (less than 15 minutes)"))
        .arg(switch("long", "The long rows (about an hour)"))
        .arg(switch("quick", "One short window for each figure, small data sets; nothing is kept"))
        .arg(switch("no-save", "Do not keep the results"))
        .after_help("Example: bench run O1 O2 --quick")
}

fn with_common_args(command: Command) -> Command {
    let folder = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("DIR").value_parser(value_parser!(PathBuf)).help(help)
    };
    command
        .arg(folder(
            "bin-dir",
            "Where order_service and data_manager are [default: beside this program]",
        ))
        .arg(folder(
            "work-dir",
            "Below which data is kept while a row runs [default: the system's folder for that]",
        ))
        .arg(results_arg())
        .arg(output_arg())
}

fn results_arg() -> Arg {
    Arg::new("results")
        .long("results")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .default_value("bench/results")
        .help("Where results are kept")
}

fn output_arg() -> Arg {
    Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .value_parser(["table", "json"])
        .default_value("table")
        .help("How results are printed")
}

/// Whether `--output json` was given.
pub(super) fn is_json(args: &ArgMatches) -> bool {
    args.get_one::<String>("output").is_some_and(|format| format == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    // clap checks it in debug builds only: `make unit-long`.
    #[cfg(debug_assertions)]
    #[test]
    fn the_definition_is_sound() {
        build_command().debug_assert();
    }

    #[test]
    fn a_run_needs_to_know_what() {
        assert!(build_command().try_get_matches_from(["bench", "run"]).is_err());
        assert!(build_command().try_get_matches_from(["bench", "run", "O1", "--quick"]).is_ok());
        assert!(
            build_command()
                .try_get_matches_from(["bench", "run", "--all", "--output", "json"])
                .is_ok()
        );
    }
}
