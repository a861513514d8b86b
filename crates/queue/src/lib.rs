//! Durable job queue on Postgres.
