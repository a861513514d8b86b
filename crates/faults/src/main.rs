//! `fault_proxy LISTEN UPSTREAM`: the proxy as a program, for tests not written in Rust.
//!
//! Prints `{"listening": "ADDRESS"}`, then answers each line of standard input with one line:
//!
//! | line | answer |
//! | --- | --- |
//! | `{"inject": {"at": {"statement": "put_state"}, "action": "cut_reply"}}` | `{"id": 1}` |
//! | `{"remove": 1}` | `{}` |
//! | `"counts"` | `{"faults": {"1": {"matched": 2, "injected": 1}}, "connections": {"made": 3, "open": 2, "held": 0}}` |
//! | `"executed"` | `{"put_state": 7}`: the named statements forwarded, and how often |
//! | `"hold_all"`, `"release_all"`, `"cut_all"` | `{"connections": 2}` |
//! | invalid input | `{"error": "why"}` |
//!
//! The process exits at end of standard input.

use std::io::Write as _;

use faults::{EndpointAddress, Fault, FaultProxy};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProxyCommand {
    Inject(Fault),
    Remove(u64),
    Counts,
    Executed,
    HoldAll,
    ReleaseAll,
    CutAll,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        return Err(
            "usage: fault_proxy LISTEN UPSTREAM (host:port or the path of a Unix socket)".into()
        );
    };
    let (listen, upstream) =
        (listen.parse::<EndpointAddress>()?, upstream.parse::<EndpointAddress>()?);
    // The proxy runs on a runtime thread; the main thread reads commands.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let proxy = runtime.block_on(FaultProxy::start(listen, upstream))?;
    write_answer(&json!({ "listening": proxy.address().to_string() }))?;
    for line in std::io::stdin().lines() {
        write_answer(&match serde_json::from_str(&line?) {
            Ok(command) => execute_command(&proxy, command),
            Err(error) => json!({ "error": error.to_string() }),
        })?;
    }
    Ok(())
}

fn execute_command(proxy: &FaultProxy, command: ProxyCommand) -> Value {
    match command {
        ProxyCommand::Inject(fault) => json!({ "id": proxy.inject(fault).id }),
        ProxyCommand::Remove(id) => {
            proxy.remove(id);
            json!({})
        }
        ProxyCommand::Counts => {
            let faults = proxy.injections().into_iter();
            let faults: Map<_, _> = faults
                .map(|injection| (injection.id.to_string(), json!(injection.counts())))
                .collect();
            json!({ "faults": faults, "connections": proxy.connection_counts() })
        }
        ProxyCommand::Executed => proxy
            .execution_counts()
            .iter()
            .map(|(name, times)| (name.to_string(), json!(times)))
            .collect(),
        ProxyCommand::HoldAll => json!({ "connections": proxy.hold_all() }),
        ProxyCommand::ReleaseAll => json!({ "connections": proxy.release_all() }),
        ProxyCommand::CutAll => json!({ "connections": proxy.cut_all() }),
    }
}

#[allow(clippy::disallowed_methods)] // Machine-readable output.
fn write_answer(value: &Value) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{value}")?;
    stdout.flush()
}
