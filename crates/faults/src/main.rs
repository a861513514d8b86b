//! `fault_proxy LISTEN UPSTREAM`: the proxy for tests that are not written in Rust.
//!
//! Prints `{"listening": "ADDRESS"}`, then answers each line of standard input with one line:
//!
//! | line | answer |
//! | --- | --- |
//! | `{"inject": {"at": {"statement": "put_state"}, "action": "cut_reply"}}` | `{"id": 1}` |
//! | `{"remove": 1}` | `{}` |
//! | `"counts"` | `{"faults": {"1": {"matched": 2, "injected": 1}}, "connections": {"made": 3, "open": 2, "held": 0}}` |
//! | `"hold_all"`, `"release_all"`, `"cut_all"` | `{"connections": 2}` |
//! | what cannot be read | `{"error": "why"}` |
//!
//! It ends with its standard input.

use faults::{Address, Fault, Proxy};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Inject(Fault),
    Remove(u64),
    Counts,
    HoldAll,
    ReleaseAll,
    CutAll,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        return Err("usage: fault_proxy LISTEN UPSTREAM (host:port or the path of a Unix socket)".into());
    };
    let proxy = Proxy::start(listen.parse::<Address>()?, upstream.parse::<Address>()?).await?;
    answer(&json!({ "listening": proxy.address().to_string() })).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let done = match serde_json::from_str(&line) {
            Ok(command) => obey(&proxy, command),
            Err(error) => json!({ "error": error.to_string() }),
        };
        answer(&done).await?;
    }
    Ok(())
}

fn obey(proxy: &Proxy, command: Command) -> Value {
    match command {
        Command::Inject(fault) => json!({ "id": proxy.inject(fault).id }),
        Command::Remove(id) => {
            proxy.remove(id);
            json!({})
        }
        Command::Counts => {
            let faults = proxy.injections().into_iter();
            let faults: Map<_, _> =
                faults.map(|injection| (injection.id.to_string(), json!(injection.counts()))).collect();
            json!({ "faults": faults, "connections": proxy.connections() })
        }
        Command::HoldAll => json!({ "connections": proxy.hold_all() }),
        Command::ReleaseAll => json!({ "connections": proxy.release_all() }),
        Command::CutAll => json!({ "connections": proxy.cut_all() }),
    }
}

async fn answer(value: &Value) -> std::io::Result<()> {
    let mut stdout = tokio::io::stdout();
    stdout.write_all(format!("{value}\n").as_bytes()).await?;
    stdout.flush().await
}
