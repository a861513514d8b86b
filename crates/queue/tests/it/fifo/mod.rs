//! FIFO queues on Postgres. Those on SQS are tested in the crate `queue_sqs`.

mod catalogue;
mod conformance;
mod consumers;
mod window;

use std::sync::Arc;

use queue::fifo::{FIFO_CHANNEL, FifoEngine, PgFifo};
use store::{PgNotificationHub, PgPool};

pub fn engine(pool: &PgPool) -> Arc<dyn FifoEngine> {
    let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![FIFO_CHANNEL]);
    Arc::new(PgFifo::new(pool.clone(), notifications))
}
