//! What clients meet: raw sockets against the accept loop.

mod bodies;
mod connections;
mod harness;
mod probes;
