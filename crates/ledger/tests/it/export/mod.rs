//! Export against real files and a real nats-server: one file for each hazard.

mod dropped;
mod files;
mod nats;
mod nats_server;
mod restored;
mod verified;
pub mod world;
