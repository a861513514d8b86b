//! `configurator`, `queues`, `integration`, `testproxy`.

use clap::{Arg, ArgAction, Command, value_parser};

use super::{DATABASE, output, shown, with_example};

/// Settings that say where FIFO queues are.
const QUEUES: [&str; 7] =
    ["database-url", "data-dir", "queue-engine", "sqs-endpoint-url", "queues", "answer-queue", "config"];

fn value(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn env() -> Arg {
    value("env", "ENV", "The environment: dev, test or prod").value_parser(["dev", "test", "prod"])
}

pub(super) fn command() -> Command {
    let example = "order_service configurator forecast --template shop.yaml --template-name shop --env test --general-inputs '{\"id\": 5}'";
    let forecast = with_example(
        "forecast",
        "Shows which create, update and delete each block would get from a template, without sending anything",
        example,
    )
    // The one that clap would make is wider than a terminal.
    .override_usage("order_service configurator forecast --template-name <NAME> --env <ENV>")
    .args(shown(&DATABASE))
    .arg(value("template", "FILE", "The template [default: the one that was put under the name]"))
    .arg(value("template-name", "NAME", "The instance's template name").required(true))
    .arg(env().required(true))
    .arg(value("general-inputs", "JSON", "The template's general inputs").default_value("{}"))
    .arg(value("env-inputs", "JSON", "The template's inputs of the environment").default_value("{}"))
    .arg(output());
    Command::new("configurator")
        .about("Looks ahead at configurator runs")
        .arg_required_else_help(true)
        .subcommand(forecast)
}

pub(super) fn queues() -> Command {
    let ensure = with_example(
        "ensure",
        "Makes the queues of an environment: of answers, of the integration platform, and those named",
        "order_service queues ensure --env test balance",
    )
    .args(shown(&QUEUES))
    .arg(env().required(true))
    .arg(
        Arg::new("name")
            .value_name("NAME")
            .action(ArgAction::Append)
            .help("An integration's queue, without environment and ending"),
    )
    .arg(output());
    let bury = with_example(
        "bury",
        "Takes a message that its integration dies of out of the way: puts it among the dead letters, and answers its block with an error",
        "order_service queues bury --env test --block-id 4711 balance",
    )
    .args(shown(&QUEUES))
    .arg(env().required(true))
    .arg(
        value("block-id", "ID", "The message's block_id: a time-out names the older one that was in the way")
            .required(true)
            .value_parser(value_parser!(i64)),
    )
    .arg(
        value("within", "TIME", "How long it is looked for: what an integration has in hand comes back after the visibility time-out")
            .default_value("1m"),
    )
    .arg(
        Arg::new("name")
            .value_name("NAME")
            .required(true)
            .help("The integration's queue, without environment and ending"),
    )
    .arg(output());
    Command::new("queues")
        .about("Makes FIFO queues, and takes messages out of the way")
        .arg_required_else_help(true)
        .subcommand(ensure)
        .subcommand(bury)
}

pub(super) fn integration() -> Command {
    let example = "order_service integration check --queue balance --env test\n         \
                   order_service integration check --queue balance --task set_service --args '{\"service_id\": 5}'\n\n\
                   Without --task only what needs no task that succeeds is checked. Exit codes: 0 no fault found, 1 faults (or the \
                   queues do not answer), 2 wrong usage.";
    let check = with_example(
        "check",
        "Checks that a running integration keeps to the protocol: answers, idempotency, order",
        example,
    )
    .args(shown(&QUEUES))
    .arg(value("queue", "NAME", "The integration's queue, without environment and ending").required(true))
    .arg(env().default_value("test"))
    .arg(value("task", "TYPE", "A task type of the integration: the part of `integration` after the dot"))
    .arg(value("args", "JSON", "Args with which the task succeeds").default_value("{}").requires("task"))
    .arg(value("permanent-args", "JSON", "Args with which the task fails for good").requires("task"))
    .arg(value("temporary-args", "JSON", "Args with which the task fails for now").requires("task"))
    .arg(value("patience", "TIME", "How long an answer may take").default_value("10s"))
    .arg(output());
    Command::new("integration").about("Checks integrations").arg_required_else_help(true).subcommand(check)
}

pub(super) fn testproxy() -> Command {
    let example = "order_service testproxy --port 8099\n         CONFIGSHOP_TEST_PROXY_URL=http://localhost:8099 pytest";
    with_example("testproxy", "Runs templates posted to it, and answers with the export", example)
        .args(shown(&QUEUES))
        .arg(value("port", "PORT", "Where it listens").required(true).value_parser(value_parser!(u16)))
        .arg(value("timeout", "TIME", "How long a run may take").default_value("5m"))
        .arg(value(
            "record",
            "FILE",
            "Adds every message and its answer to this file, one JSON object a line",
        ))
        .arg(
            value("replay", "FILE", "Answers from a recorded file in the place of all integrations")
                .conflicts_with("record"),
        )
}
