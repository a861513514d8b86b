//! FIFO queues in Postgres.

mod catalogue;
mod conformance;
mod consumers;
mod window;

use std::sync::Arc;

use queue::fifo::{CHANNEL, FifoEngine, PostgresFifo};
use store::{Notifications, PgPool};

pub fn engine(pool: &PgPool) -> Arc<dyn FifoEngine> {
    let (notifications, _) = Notifications::start(pool.clone(), vec![CHANNEL]);
    Arc::new(PostgresFifo::new(pool.clone(), notifications))
}
