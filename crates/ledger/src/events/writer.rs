//! Event writer: each shard's part of a call is atomic; parts of concurrent calls share a group
//! commit.
//!
//! - Shape: one coalescer and one dedicated connection per shard.
//! - Cost: one round trip per group commit; at most 10,000 events, except for a single larger part.
//! - Lock order: accounts, attribute sets, event keys, each sorted; then the partition gate.
//! - Promise: events are durable when a write returns. After `Unavailable` the commit outcome is
//!   unknown; repeating the call is idempotent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use store::{BatchOptions, Coalescer, Error, FairTurn, OwnConnection, Result, run_statement};
use tokio::sync::oneshot;

use super::dedup::{LedgerEventContradiction, LedgerEventDedup, dedup_events};
use super::{
    LedgerEvent, LedgerEventCache, LedgerEventColumns, LedgerEventRefusal, create_event_partitions,
};
use crate::sequence::SequenceNotifier;
use crate::sharding::LedgerShards;

/// Maximum events in one transaction; a single larger part still fits.
const MAX_EVENTS_PER_COMMIT: usize = 10_000;
/// Capacity of a shard's queue, in parts.
const MAX_WAITING_PARTS: usize = 8192;

/// Group commit limits in parts: 4,096, or 512 while several callers take turns. A part of an order
/// has one or two events.
const EVENT_BATCH_LIMITS: BatchOptions =
    BatchOptions { max_items: 4096, max_shared_items: 512, min_interval: COMMIT_INTERVAL };
/// Minimum interval between group commits of a shard under
/// load: a commit costs about as much as 20 events.
const COMMIT_INTERVAL: Duration = Duration::from_millis(1);

/// Retries of a write whose partition was dropped after it was cached.
pub(crate) const MAX_PARTITION_RETRIES: u32 = 10;

/// Status of an event after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerEventStatus {
    /// Written by this call.
    Created,
    /// Already stored with the same content.
    Duplicate,
    /// Its id is stored with other content.
    Conflict,
    /// The shard did not answer: commit outcome unknown. Repeating the call resolves it.
    Unavailable,
    /// An earlier event of the same call has its id and other content; neither is stored.
    Contradiction,
    /// Not written, because of another event of the same call and shard.
    NotWritten,
}

impl LedgerEventStatus {
    /// The status in responses.
    pub fn name(self) -> &'static str {
        match self {
            LedgerEventStatus::Created => "created",
            LedgerEventStatus::Duplicate => "duplicate",
            LedgerEventStatus::Conflict | LedgerEventStatus::Contradiction => "conflict",
            LedgerEventStatus::Unavailable => "unavailable",
            LedgerEventStatus::NotWritten => "not_written",
        }
    }
}

/// Status of an event, and its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerEventOutcome {
    /// Status after the write.
    pub status: LedgerEventStatus,
    /// Index of its shard in [`LedgerShards::all`].
    pub shard_index: usize,
}

/// Writes events; clones share the queues and caches.
#[derive(Clone)]
pub struct LedgerEventWriter {
    shards: LedgerShards,
    coalescers: Arc<[Coalescer<LedgerEventWriteRequest>]>,
    caches: Arc<[Arc<LedgerEventCache>]>,
}

struct LedgerEventWriteRequest {
    events: Arc<[LedgerEvent]>,
    reply: oneshot::Sender<Result<Vec<LedgerEventStatus>>>,
}

impl LedgerEventWriter {
    /// Starts one committing task per shard.
    pub fn start(shards: LedgerShards, wakes: &[SequenceNotifier]) -> Self {
        let caches: Arc<[Arc<LedgerEventCache>]> =
            shards.all().iter().map(|_| Arc::default()).collect();
        let mut coalescers = Vec::with_capacity(shards.all().len());
        for ((shard, known), wake) in shards.all().iter().zip(caches.iter()).zip(wakes) {
            let (own, known, wake) =
                (OwnConnection::open_beside(&shard.pool), known.clone(), wake.clone());
            coalescers.push(Coalescer::spawn_fair(
                "write_events",
                MAX_WAITING_PARTS,
                EVENT_BATCH_LIMITS,
                move |parts| {
                    let (own, known, wake) = (own.clone(), known.clone(), wake.clone());
                    async move {
                        write_parts(&own, &known, parts).await;
                        wake.notify_written();
                    }
                },
            ));
        }
        Self { shards, coalescers: coalescers.into(), caches }
    }

    /// Writes `events`; returns outcomes in their order. Each
    /// shard's part is atomic, and durable when this returns.
    pub async fn write(&self, events: Vec<LedgerEvent>) -> Vec<LedgerEventOutcome> {
        self.write_in_turn(FairTurn::COMMON, events).await
    }

    /// Like [`Self::write`], in a fair queue: a caller with
    /// many parts takes turns with other callers.
    pub async fn write_in_turn(
        &self,
        turn: FairTurn,
        events: Vec<LedgerEvent>,
    ) -> Vec<LedgerEventOutcome> {
        let mut parts: Vec<(Vec<usize>, Vec<LedgerEvent>)> =
            vec![Default::default(); self.shards.all().len()];
        let mut outcomes = Vec::with_capacity(events.len());
        for (index, event) in events.into_iter().enumerate() {
            let shard = self.shards.index_of_hash(event.shard_hash);
            outcomes.push(LedgerEventOutcome {
                status: LedgerEventStatus::Unavailable,
                shard_index: shard,
            });
            parts[shard].0.push(index);
            parts[shard].1.push(event);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
        let writes = parts.map(async |(shard, (places, events))| {
            (places, self.write_part(turn, shard, events).await)
        });
        for (places, statuses) in futures::future::join_all(writes).await {
            for (place, status) in places.into_iter().zip(statuses) {
                outcomes[place].status = status;
            }
        }
        outcomes
    }

    async fn write_part(
        &self,
        turn: FairTurn,
        shard: usize,
        events: Vec<LedgerEvent>,
    ) -> Vec<LedgerEventStatus> {
        let (events, repeats) = match dedup_events(events) {
            LedgerEventDedup::Consistent(events, repeated) => (events, repeated),
            LedgerEventDedup::Contradictory(contradiction) => {
                return self.read_contradiction_statuses(shard, contradiction).await;
            }
        };
        let events: Arc<[LedgerEvent]> = events.into();
        let mut tries = MAX_PARTITION_RETRIES;
        let written = loop {
            match self.write_once(turn, shard, &events).await {
                // The partition was dropped after it was cached.
                Err(error) if is_partition_missing(&error) && tries > 0 => tries -= 1,
                written => break written,
            }
        };
        let statuses = written.unwrap_or_else(|error| {
            tracing::warn!(shard = self.shards.all()[shard].name, %error, code = "UNAVAILABLE", "events not written");
            vec![LedgerEventStatus::Unavailable; events.len()]
        });
        repeats.expand_statuses(statuses)
    }

    /// Statuses of a part that contradicts itself; nothing of it is written.
    async fn read_contradiction_statuses(
        &self,
        shard: usize,
        contradiction: LedgerEventContradiction,
    ) -> Vec<LedgerEventStatus> {
        let shard = &self.shards.all()[shard];
        contradiction.read_statuses(&shard.pool).await.unwrap_or_else(|error| {
            tracing::warn!(shard = shard.name, %error, code = "UNAVAILABLE", "events not looked up");
            contradiction.unavailable_statuses()
        })
    }

    /// Creates missing partitions outside the queue, so that their wait delays no other caller;
    /// then submits the part to the group commit.
    async fn write_once(
        &self,
        turn: FairTurn,
        shard: usize,
        events: &Arc<[LedgerEvent]>,
    ) -> Result<Vec<LedgerEventStatus>> {
        let cache = &self.caches[shard];
        create_event_partitions(
            &self.shards.all()[shard].pool,
            cache,
            cache.find_missing_partitions(events),
        )
        .await?;
        let reply = self.coalescers[shard]
            .submit_for(turn, |reply| LedgerEventWriteRequest { events: events.clone(), reply })
            .await;
        reply.unwrap_or(Err(Error::Abandoned))
    }

    /// The shard's cache, for transactions that write events together with other rows.
    pub(crate) fn shard_cache(&self, shard: usize) -> &Arc<LedgerEventCache> {
        &self.caches[shard]
    }
}

async fn write_parts(
    own: &OwnConnection,
    cache: &Arc<LedgerEventCache>,
    parts: Vec<LedgerEventWriteRequest>,
) {
    let mut waiting = parts;
    while !waiting.is_empty() {
        let (now, later) = split_off_one_transaction(waiting);
        let events: Arc<[Arc<[LedgerEvent]>]> =
            now.iter().map(|part| part.events.clone()).collect();
        match write_event_batch(own, cache, events).await {
            Ok(statuses) => {
                let mut statuses = statuses.into_iter();
                for part in now {
                    let own = statuses.by_ref().take(part.events.len()).collect();
                    // The caller may have been cancelled.
                    let _ = part.reply.send(Ok(own));
                }
            }
            Err(error) if now.len() > 1 && !error.is_transient() => {
                // One part causes a permanent error: write
                // each part alone, so that the others succeed.
                for part in now {
                    let alone = write_event_batch(own, cache, [part.events.clone()].into()).await;
                    let _ = part.reply.send(alone);
                }
            }
            Err(error) => {
                now.into_iter().for_each(|part| drop(part.reply.send(Err(error.clone()))))
            }
        }
        waiting = later;
    }
}

/// Splits off the first parts that share no key and fit in
/// one transaction; returns them and the rest.
fn split_off_one_transaction(
    parts: Vec<LedgerEventWriteRequest>,
) -> (Vec<LedgerEventWriteRequest>, Vec<LedgerEventWriteRequest>) {
    let (mut keys, mut events) = (HashSet::new(), 0);
    let mut full = false;
    parts.into_iter().partition(|part| {
        full |= events > 0 && events + part.events.len() > MAX_EVENTS_PER_COMMIT;
        let fresh = !full && part.events.iter().all(|event| !keys.contains(&event.key));
        // Keys of deferred parts count too, so that a later
        // part with the same key does not overtake them.
        keys.extend(part.events.iter().map(|event| event.key));
        events += if fresh { part.events.len() } else { 0 };
        fresh
    })
}

async fn write_event_batch(
    own: &OwnConnection,
    cache: &Arc<LedgerEventCache>,
    parts: Arc<[Arc<[LedgerEvent]>]>,
) -> Result<Vec<LedgerEventStatus>> {
    let refusals = attempt_write(own, cache, &parts).await?;
    store::fail_point("events_written");
    let events = parts.iter().map(|part| part.len()).sum();
    metrics::counter!("ledger_events_written_total")
        .increment((events - refusals.len().min(events)) as u64);
    Ok(statuses_from_refusals(events, refusals))
}

/// Whether the error is a missing partition (SQLSTATE 23514).
pub(crate) fn is_partition_missing(error: &Error) -> bool {
    error.sqlstate().as_deref() == Some("23514")
}

/// One round trip. The cache is consulted with the connection in
/// hand, because it is valid for that connection's generation only.
async fn attempt_write(
    own: &OwnConnection,
    cache: &Arc<LedgerEventCache>,
    parts: &Arc<[Arc<[LedgerEvent]>]>,
) -> Result<Vec<(usize, LedgerEventRefusal)>> {
    let (connection, shared_cache, parts) = (own.clone(), cache.clone(), parts.clone());
    run_statement(own.pool(), "write_events", move |in_hand| {
        let cache = shared_cache.clone();
        cache.clear_if_reconnected(&connection.generation());
        let rows = LedgerEventColumns::from_parts(parts.clone(), &cache);
        Box::pin(async move {
            let refusals = rows.write(in_hand).await?;
            cache.add_names(&rows);
            Ok(refusals)
        })
    })
    .await
    .inspect_err(|_| cache.clear())
}

/// Statuses of all events, given the events that were not created.
pub(crate) fn statuses_from_refusals(
    event_count: usize,
    refusals: Vec<(usize, LedgerEventRefusal)>,
) -> Vec<LedgerEventStatus> {
    let mut statuses = vec![LedgerEventStatus::Created; event_count];
    for (event, refusal) in refusals {
        if let Some(status) = statuses.get_mut(event) {
            *status = match refusal {
                LedgerEventRefusal::Duplicate => LedgerEventStatus::Duplicate,
                LedgerEventRefusal::Conflict => LedgerEventStatus::Conflict,
                LedgerEventRefusal::NotWritten => LedgerEventStatus::NotWritten,
            };
        }
    }
    statuses
}
