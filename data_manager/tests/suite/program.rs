//! Hazard: the program ends with a wrong exit code, with more or less than one line, or not at all.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use store::PgConnectOptions;
use store::testing::{empty_database_options, run_test};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_data_manager"));
    for (variable, _) in std::env::vars().filter(|(name, _)| name.starts_with("DATA_MANAGER_")) {
        command.env_remove(variable);
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

/// Exit code, and the one plain line on standard error. Log records, if any, contain the same
/// message.
fn failure(args: &[&str]) -> (i32, String) {
    let output = output(args);
    let text = String::from_utf8(output.stderr).unwrap();
    let (records, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('{'));
    let [line] = lines[..] else { panic!("{args:?}: {text}") };
    for record in records {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        assert_eq!(
            Some(line),
            record["message"].as_str().map(|said| format!("error: {said}")).as_deref()
        );
    }
    (output.status.code().unwrap(), line.to_owned())
}

/// A serving program on a free port, and its ready line.
fn serving(args: &[&str]) -> (Child, String) {
    let mut child = program(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.by_ref().map(Result::unwrap).find(|line| line.contains("data manager ready"));
    // Drains standard error, or the program would get EPIPE.
    std::thread::spawn(move || lines.for_each(drop));
    (child, ready.unwrap())
}

fn free_port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn url(options: &PgConnectOptions) -> String {
    // The options name the folder by a file descriptor of this process.
    let socket = std::fs::canonicalize(options.get_socket().unwrap()).unwrap();
    let socket = socket.to_str().unwrap().replace('/', "%2F");
    let (user, database) = (options.get_username(), options.get_database().unwrap());
    format!("postgres://{user}@{socket}/{database}")
}

#[test]
fn wrong_usage_is_told_in_one_line_with_exit_code_2() {
    let (code, line) = failure(&["--app-prot", "1"]);
    assert!(code == 2 && line.contains("--app-port"), "{line}");
    for args in [
        &["-callback_mode", "never"][..],
        &["--error-rate", "2"],
        &["--app-port", "70000"],
        &["--listen", "0.0.0.0"],
        &["--order-address", "nowhere"],
        &["--log-filter", "a=b=c"],
        &["--config", "/nowhere"],
        &["config"],
        &["migrate"],
        &["unheard-of"],
    ] {
        assert_eq!(failure(args).0, 2, "{args:?}");
    }
}

#[test]
fn what_it_meets_is_told_in_one_line_with_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, line) = failure(&["-app_port", &port]);
    assert!(code == 1 && line.contains("in use") && line.contains(&port), "{line}");
    let url = format!("postgres://canary:secret@127.0.0.1:{}/none", free_port());
    let (code, line) = failure(&["--database-url", &url, "--startup-timeout", "100ms"]);
    assert!(code == 1 && line.contains("not reachable") && !line.contains("secret"), "{line}");
}

#[test]
fn it_serves_with_the_old_flags_and_ends_with_0_when_told_to() {
    let port = free_port();
    let (mut child, ready) = serving(&["-order_address", "localhost:1", "-app_port", &port]);
    assert!(ready.contains(&format!("127.0.0.1:{port}")), "{ready}");
    let (code, _) = failure(&["-app_port", &port]);
    assert_eq!(code, 1);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn settings_are_printed_with_their_sources_and_without_secrets() {
    let args =
        ["config", "print", "-app_port", "8086", "--database-url", "postgres://canary@host/db"];
    let table = output(&args);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(table.status.success() && !text.contains("canary"), "{text}");
    let line = |name: &str| {
        text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned()
    };
    assert!(line("app-port").contains("8086") && line("app-port").contains("flag"));
    assert!(line("database-url").contains("****") && line("seed").contains("not set"));
    assert!(line("once").contains("false") && line("once").contains("default"));
    assert!(
        line("order-address").contains("localhost:8094")
            && line("order-address").contains("default")
    );

    let json = program(&["config", "print", "--output", "json"])
        .env("DATA_MANAGER_SEED", "7")
        .output()
        .unwrap();
    let settings: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    let seed = settings.iter().find(|setting| setting["name"] == "seed").unwrap();
    assert_eq!(
        (&seed["value"], &seed["source"]),
        (&"7".into(), &"environment DATA_MANAGER_SEED".into())
    );
}

#[test]
fn help_shows_an_example() {
    for args in [&["--help"][..], &["-h"]] {
        let help = output(args);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.status.success() && text.contains("data_manager -order_address localhost:8085"),
            "{text}"
        );
    }
}

#[test]
fn a_database_is_prepared_by_migrate() {
    run_test(async {
        let url = url(&empty_database_options().await);
        let told = |args: &[&str]| {
            let output = output(&[&["migrate", "--database-url", &url], args].concat());
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(told(&["--dry-run"]), "would apply 0001 baseline\n");
        assert_eq!(told(&[]), "applied 0001 baseline\n");
        assert_eq!(told(&[]), "the database is at this version already\n");
        let (mut child, _) = serving(&["--database-url", &url, "-app_port", &free_port()]);
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}
