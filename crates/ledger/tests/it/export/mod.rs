//! Export to real files and a real nats-server: one file per hazard.

mod dropped;
mod files;
mod nats;
mod nats_server;
mod restored;
mod verified;
pub mod world;
