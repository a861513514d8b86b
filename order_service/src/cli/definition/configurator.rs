//! Commands `configurator`, `queues`, `integration`, `testproxy`.

use clap::{Arg, ArgAction, Command, value_parser};

use super::{DATABASE_SETTING_NAMES, command_with_example, output_arg, setting_args};

/// Settings of the FIFO queue engine.
const QUEUE_SETTING_NAMES: [&str; 7] = [
    "database-url",
    "data-dir",
    "queue-engine",
    "sqs-endpoint-url",
    "queues",
    "answer-queue",
    "config",
];

fn value_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn env_arg() -> Arg {
    value_arg("env", "ENV", "The environment: dev, test or prod")
        .value_parser(["dev", "test", "prod"])
}

pub(super) fn configurator_command() -> Command {
    let example = "order_service configurator forecast --template shop.yaml --template-name shop --env test --general-inputs '{\"id\": 5}'";
    let forecast = command_with_example(
        "forecast",
        "Shows which create, update and delete each block would get from a template, without sending anything",
        example,
    )
    // The usage that clap generates is wider than a terminal.
    .override_usage("order_service configurator forecast --template-name <NAME> --env <ENV>")
    .args(setting_args(&DATABASE_SETTING_NAMES))
    .arg(value_arg("template", "FILE", "The template [default: the one that was put under the name]"))
    .arg(value_arg("template-name", "NAME", "The instance's template name").required(true))
    .arg(env_arg().required(true))
    .arg(value_arg("general-inputs", "JSON", "The template's general inputs").default_value("{}"))
    .arg(value_arg("env-inputs", "JSON", "The template's inputs of the environment").default_value("{}"))
    .arg(output_arg());
    Command::new("configurator")
        .about("Looks ahead at configurator runs")
        .arg_required_else_help(true)
        .subcommand(forecast)
}

pub(super) fn queues_command() -> Command {
    let ensure = command_with_example(
        "ensure",
        "Makes the queues of an environment: of answers, of the integration platform, and those named",
        "order_service queues ensure --env test balance",
    )
    .args(setting_args(&QUEUE_SETTING_NAMES))
    .arg(env_arg().required(true))
    .arg(
        Arg::new("name")
            .value_name("NAME")
            .action(ArgAction::Append)
            .help("An integration's queue, without environment and ending"),
    )
    .arg(output_arg());
    let bury = command_with_example(
        "bury",
        "Takes a message that its integration dies of out of the way: puts it among the dead letters, and answers its block with an error",
        "order_service queues bury --env test --block-id 4711 balance",
    )
    .args(setting_args(&QUEUE_SETTING_NAMES))
    .arg(env_arg().required(true))
    .arg(
        value_arg("block-id", "ID", "The message's block_id: a time-out names the older one that was in the way")
            .required(true)
            .value_parser(value_parser!(i64)),
    )
    .arg(
        value_arg("within", "TIME", "How long it is looked for: what an integration has in hand comes back after the visibility time-out")
            .default_value("1m"),
    )
    .arg(
        Arg::new("name")
            .value_name("NAME")
            .required(true)
            .help("The integration's queue, without environment and ending"),
    )
    .arg(output_arg());
    Command::new("queues")
        .about("Makes FIFO queues, and takes messages out of the way")
        .arg_required_else_help(true)
        .subcommand(ensure)
        .subcommand(bury)
}

pub(super) fn integration_command() -> Command {
    let example = "order_service integration check --queue balance --env test\n         \
                   order_service integration check --queue balance --task set_service --args '{\"service_id\": 5}'\n\n\
                   Without --task only what needs no task that succeeds is checked. Exit codes: 0 no fault found, 1 faults (or the \
                   queues do not answer), 2 wrong usage.";
    let check = command_with_example(
        "check",
        "Checks that a running integration keeps to the protocol: answers, idempotency, order",
        example,
    )
    .args(setting_args(&QUEUE_SETTING_NAMES))
    .arg(
        value_arg("queue", "NAME", "The integration's queue, without environment and ending")
            .required(true),
    )
    .arg(env_arg().default_value("test"))
    .arg(value_arg(
        "task",
        "TYPE",
        "A task type of the integration: the part of `integration` after the dot",
    ))
    .arg(
        value_arg("args", "JSON", "Args with which the task succeeds")
            .default_value("{}")
            .requires("task"),
    )
    .arg(
        value_arg("permanent-args", "JSON", "Args with which the task fails for good")
            .requires("task"),
    )
    .arg(
        value_arg("temporary-args", "JSON", "Args with which the task fails for now")
            .requires("task"),
    )
    .arg(value_arg("patience", "TIME", "How long an answer may take").default_value("10s"))
    .arg(output_arg());
    Command::new("integration")
        .about("Checks integrations")
        .arg_required_else_help(true)
        .subcommand(check)
}

pub(super) fn testproxy_command() -> Command {
    let example = "order_service testproxy --port 8099\n         CONFIGSHOP_TEST_PROXY_URL=http://localhost:8099 pytest";
    command_with_example(
        "testproxy",
        "Runs templates posted to it, and answers with the export",
        example,
    )
    .args(setting_args(&QUEUE_SETTING_NAMES))
    .arg(
        value_arg("port", "PORT", "Where it listens")
            .required(true)
            .value_parser(value_parser!(u16)),
    )
    .arg(value_arg("timeout", "TIME", "How long a run may take").default_value("5m"))
    .arg(value_arg(
        "record",
        "FILE",
        "Adds every message and its answer to this file, one JSON object a line",
    ))
    .arg(
        value_arg(
            "replay",
            "FILE",
            "Answers from a recorded file in the place of all integrations",
        )
        .conflicts_with("record"),
    )
}
