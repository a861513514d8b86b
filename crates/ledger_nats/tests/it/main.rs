//! The ledger's export to a real nats-server; one file per hazard.

// Test helpers may panic, too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod nats;
mod nats_server;
mod restored;
mod verified;

// Shared with the ledger's tests, which use all of it.
#[allow(dead_code)]
#[path = "../../../ledger/tests/it/export/changed.rs"]
mod changed;
#[allow(dead_code)]
#[path = "../../../ledger/tests/it/harness.rs"]
mod harness;
#[path = "../../../ledger/tests/it/export/put_back.rs"]
mod put_back;
#[allow(dead_code)]
#[path = "../../../ledger/tests/it/export/world.rs"]
mod world;
