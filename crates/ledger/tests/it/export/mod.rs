//! Export to real files; one file per hazard. The tests of the crate `ledger_nats` export to a real
//! nats-server, with the same support.

mod changed;
mod dropped;
mod files;
mod put_back;
mod restored;
mod verified;
pub mod world;
