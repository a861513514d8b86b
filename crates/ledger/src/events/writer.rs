//! Writing events: each shard's part of a call in one transaction, parts of concurrent calls together in one commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use store::{Batches, Coalescer, Error, OwnConnection, Result, Turn, run};
use tokio::sync::oneshot;

use super::once::{Contradiction, Part, once_each};
use super::{Event, Judged, Known, Rows, make_months};
use crate::sequence::Wake;
use crate::sharding::Shards;

/// Most events in one transaction, but for a single part that is larger.
const EVENTS_PER_COMMIT: usize = 10_000;
/// Most parts that wait for a shard.
const WAITING_PARTS: usize = 8192;

/// Parts in one transaction. Of orders, whose parts are an event or two each, less while several requests wait for theirs.
const BATCHES: Batches = Batches { most: 4096, shared: 512, pace: PACE };
/// From one commit of a shard to the next while several callers write: a commit costs as much as some twenty events.
const PACE: Duration = Duration::from_millis(1);

/// How often months that were dropped meanwhile are made again before a write fails.
pub(crate) const MONTHS_MADE_AGAIN: u32 = 10;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is there now.
    Created,
    /// It was there, with the same content.
    Duplicate,
    /// Its id is there with other content.
    Conflict,
    /// Its shard did not answer: it may be there or not. Repeating the call settles it.
    Unavailable,
    /// Its id comes in the same call before it, with other content, and is not there.
    Contradiction,
    /// Nothing was written, because of another event of the same call and shard.
    NotWritten,
}

impl Status {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Duplicate => "duplicate",
            Status::Conflict | Status::Contradiction => "conflict",
            Status::Unavailable => "unavailable",
            Status::NotWritten => "not_written",
        }
    }
}

/// What became of an event, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// What.
    pub status: Status,
    /// The place in [`Shards::all`] of its shard.
    pub shard: usize,
}

/// Writes events; clones share everything.
#[derive(Clone)]
pub struct Writer {
    shards: Shards,
    desks: Arc<[Coalescer<Ask>]>,
    known: Arc<[Arc<Known>]>,
}

struct Ask {
    events: Arc<[Event]>,
    reply: oneshot::Sender<Result<Vec<Status>>>,
}

impl Writer {
    /// Starts one committing task per shard.
    pub fn start(shards: Shards, wakes: &[Wake]) -> Self {
        let known: Arc<[Arc<Known>]> = shards.all().iter().map(|_| Arc::default()).collect();
        let desks = shards.all().iter().zip(known.iter()).zip(wakes).map(|((shard, known), wake)| {
            let (own, known, wake) = (OwnConnection::beside(&shard.pool), known.clone(), wake.clone());
            Coalescer::spawn_fair("write_events", WAITING_PARTS, BATCHES, move |parts| {
                let (own, known, wake) = (own.clone(), known.clone(), wake.clone());
                async move {
                    settle(&own, &known, parts).await;
                    wake.written();
                }
            })
        });
        let desks = desks.collect();
        Self { shards, desks, known }
    }

    /// Writes `events`, each shard's part all or nothing and durable when this returns; answers in their order.
    pub async fn write(&self, events: Vec<Event>) -> Vec<Written> {
        self.write_in_turn(Turn::COMMON, events).await
    }

    /// The same for one of many parts that somebody has: they take turns with those of others.
    pub async fn write_in_turn(&self, turn: Turn, events: Vec<Event>) -> Vec<Written> {
        let mut parts: Vec<(Vec<usize>, Vec<Event>)> = vec![Default::default(); self.shards.all().len()];
        let mut written = Vec::with_capacity(events.len());
        for (place, event) in events.into_iter().enumerate() {
            let shard = self.shards.owner(event.hash);
            written.push(Written { status: Status::Unavailable, shard });
            parts[shard].0.push(place);
            parts[shard].1.push(event);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
        let asked =
            parts.map(async |(shard, (places, events))| (places, self.write_part(turn, shard, events).await));
        for (places, statuses) in futures::future::join_all(asked).await {
            for (place, status) in places.into_iter().zip(statuses) {
                written[place].status = status;
            }
        }
        written
    }

    async fn write_part(&self, turn: Turn, shard: usize, events: Vec<Event>) -> Vec<Status> {
        let (events, repeated) = match once_each(events) {
            Part::Sound(events, repeated) => (events, repeated),
            Part::Contradictory(contradiction) => return self.judge(shard, contradiction).await,
        };
        let events: Arc<[Event]> = events.into();
        let mut tries = MONTHS_MADE_AGAIN;
        let written = loop {
            match self.write_once(turn, shard, &events).await {
                // A month that was there has been dropped since.
                Err(error) if lacks_month(&error) && tries > 0 => tries -= 1,
                written => break written,
            }
        };
        let statuses = written.unwrap_or_else(|error| {
            tracing::warn!(shard = self.shards.all()[shard].name, %error, code = "UNAVAILABLE", "events not written");
            vec![Status::Unavailable; events.len()]
        });
        repeated.put_back(statuses)
    }

    /// What became of a part of which nothing can be written.
    async fn judge(&self, shard: usize, contradiction: Contradiction) -> Vec<Status> {
        let contradiction = Arc::new(contradiction);
        let asked = contradiction.clone();
        let judged = run(&self.shards.all()[shard].pool, "judge_events", move |connection| {
            let asked = asked.clone();
            Box::pin(async move { asked.judge(connection).await })
        });
        judged.await.unwrap_or_else(|error| {
            tracing::warn!(shard = self.shards.all()[shard].name, %error, code = "UNAVAILABLE", "events not looked up");
            contradiction.unanswered()
        })
    }

    /// Makes the months that there may not be, which may have to wait and concerns nobody else; then writes with whatever
    /// others bring.
    async fn write_once(&self, turn: Turn, shard: usize, events: &Arc<[Event]>) -> Result<Vec<Status>> {
        let known = &self.known[shard];
        make_months(&self.shards.all()[shard].pool, known, known.new_months(events)).await?;
        let ask = |reply| Ask { events: events.clone(), reply };
        let asked = self.desks[shard].ask_for(turn, ask).await;
        asked.unwrap_or(Err(Error::Abandoned))
    }

    /// What is known of a shard, for transactions that write events beside other things.
    pub(crate) fn known(&self, shard: usize) -> &Arc<Known> {
        &self.known[shard]
    }
}

async fn settle(own: &OwnConnection, known: &Arc<Known>, parts: Vec<Ask>) {
    let mut waiting = parts;
    while !waiting.is_empty() {
        let (now, later) = next(waiting);
        let events: Arc<[Arc<[Event]>]> = now.iter().map(|part| part.events.clone()).collect();
        match write(own, known, events).await {
            Ok(statuses) => {
                let mut statuses = statuses.into_iter();
                for part in now {
                    let own = statuses.by_ref().take(part.events.len()).collect();
                    // The caller may be gone.
                    let _ = part.reply.send(Ok(own));
                }
            }
            Err(error) if now.len() > 1 && !error.is_transient() => {
                // Something about one of them: the others must not suffer from it.
                for part in now {
                    let alone = write(own, known, [part.events.clone()].into()).await;
                    let _ = part.reply.send(alone);
                }
            }
            Err(error) => now.into_iter().for_each(|part| drop(part.reply.send(Err(error.clone())))),
        }
        waiting = later;
    }
}

/// The first parts that share no key and are not too many for a transaction, and the others.
fn next(parts: Vec<Ask>) -> (Vec<Ask>, Vec<Ask>) {
    let (mut keys, mut events) = (HashSet::new(), 0);
    let mut full = false;
    parts.into_iter().partition(|part| {
        full |= events > 0 && events + part.events.len() > EVENTS_PER_COMMIT;
        let fresh = !full && part.events.iter().all(|event| !keys.contains(&event.key));
        // Also those of a part that waits: one after it with the same key comes later still.
        keys.extend(part.events.iter().map(|event| event.key));
        events += if fresh { part.events.len() } else { 0 };
        fresh
    })
}

async fn write(own: &OwnConnection, known: &Arc<Known>, parts: Arc<[Arc<[Event]>]>) -> Result<Vec<Status>> {
    let judged = attempt(own, known, &parts).await?;
    store::fail_point("events_written");
    let events = parts.iter().map(|part| part.len()).sum();
    metrics::counter!("ledger_events_written_total").increment((events - judged.len().min(events)) as u64);
    Ok(statuses(events, judged))
}

/// Whether there was no partition for an event.
pub(crate) fn lacks_month(error: &Error) -> bool {
    error.sqlstate().as_deref() == Some("23514")
}

/// One round trip. What need not be sent along is decided with the connection in hand.
async fn attempt(
    own: &OwnConnection,
    known: &Arc<Known>,
    parts: &Arc<[Arc<[Event]>]>,
) -> Result<Vec<(usize, Judged)>> {
    let (connection, remembered, parts) = (own.clone(), known.clone(), parts.clone());
    run(own.pool(), "write_events", move |in_hand| {
        let known = remembered.clone();
        known.keep_only(&connection.generation());
        let rows = Rows::of(parts.clone(), &known);
        Box::pin(async move {
            let judged = rows.write(in_hand).await?;
            known.remember(&rows);
            Ok(judged)
        })
    })
    .await
    .inspect_err(|_| known.forget())
}

/// The statuses of all events from those that were not created.
pub(crate) fn statuses(events: usize, judged: Vec<(usize, Judged)>) -> Vec<Status> {
    let mut statuses = vec![Status::Created; events];
    for (event, judged) in judged {
        if let Some(status) = statuses.get_mut(event) {
            *status = match judged {
                Judged::Duplicate => Status::Duplicate,
                Judged::Conflict => Status::Conflict,
                Judged::NotWritten => Status::NotWritten,
            };
        }
    }
    statuses
}
