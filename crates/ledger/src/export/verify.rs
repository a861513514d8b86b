//! The proof that a shard's stream says what its ledger says: counts, checksums, gaps, order, and each event's content.

use futures::StreamExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::body::content;
use super::compare::{Ledgered, difference};
use super::judge::{Standing, judge};
use super::{Engine, Entry, Mark, Progress, Result};
use crate::sharding::Shard;
use crate::types::Types;

/// So many differences are named.
const NAMED: usize = 20;

/// A shard's ledger, its stream, and what they are compared with.
pub struct Verifier<'a> {
    /// The shard.
    pub shard: &'a Shard,
    /// The ledger's types.
    pub types: &'a Types,
    /// Where the stream is.
    pub engine: &'a dyn Engine,
}

/// What a verification has found.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// The shard.
    pub shard: String,
    /// The engine.
    pub engine: &'static str,
    /// The epochs that the stream holds, in order.
    pub epochs: Vec<Epoch>,
    /// Entries in the stream.
    pub entries: i64,
    /// Of these, void since a later epoch began at or below their numbers.
    pub void: i64,
    /// Events that the stream has and the ledger has dropped since, as its retention says.
    pub dropped: i64,
    /// The last number of the stream, and so the count of events that it must hold; the ledger's events up to it are
    /// what it is compared with.
    pub exported_seq: i64,
    /// Events that the ledger has numbered after that.
    pub not_yet_exported: i64,
    /// SHA-256 over the canonical JSON of each event (with `seq`, without `shard` and `epoch`), one a line, as the stream
    /// has them.
    pub stream_sha256: String,
    /// The same over the ledger's events; those that were dropped as the stream has them.
    pub ledger_sha256: String,
    /// How many differences there are; none in a sound system.
    pub difference_count: i64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Why the exporter stands still, or would.
    pub alarm: Option<String>,
    #[serde(skip)]
    pub(super) standing: Standing,
    #[serde(skip)]
    pub(super) progress: Progress,
    #[serde(skip)]
    pub(super) last: Option<Mark>,
    /// The lowest number at which they differ.
    #[serde(skip)]
    pub(super) first_difference: Option<i64>,
}

/// An epoch of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Epoch {
    /// Which.
    pub epoch: i64,
    /// Its first number; entries of earlier epochs at or above it are void.
    pub first_seq: i64,
    /// Its last number so far.
    pub last_seq: i64,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The number.
    pub seq: i64,
    /// What is wrong with it.
    pub what: String,
}

impl Proof {
    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        self.difference_count == 0 && self.alarm.is_none() && self.stream_sha256 == self.ledger_sha256
    }
}

impl Verifier<'_> {
    /// Compares everything that the stream holds now with the ledger; `advanced` hears of (numbers done, all). Reads the
    /// stream once, or twice if it has several epochs, and the ledger once.
    pub async fn verify(&self, mut advanced: impl FnMut(i64, i64)) -> Result<Proof> {
        let mut progress = Progress::load(&self.shard.pool).await?;
        let last = self.engine.last(&self.shard.name).await?.map(|entry| entry.mark);
        progress.last_seq = Progress::load(&self.shard.pool).await?.last_seq;
        let epochs = self.epochs(last).await?;
        let exported = last.map_or(0, |last| last.seq);
        let mut weighing = Weighing::new(Ledgered::new(self.shard, self.types.now()), epochs);
        let mut stream = self.engine.read(&self.shard.name, None);
        while let Some(entries) = stream.next().await {
            for entry in entries?.into_iter().filter(|entry| last.is_some_and(|last| entry.mark <= last)) {
                weighing.add(entry).await?;
            }
            advanced(weighing.next - 1, exported);
        }
        weighing.lacks(exported + 1).await?;
        advanced(exported, exported);
        Ok(weighing.proof(self, progress, last))
    }

    /// Which epochs there are, and where each begins. Without reading anything if there was only ever one.
    async fn epochs(&self, last: Option<Mark>) -> Result<Vec<Epoch>> {
        let mut epochs: Vec<Epoch> = Vec::new();
        let Some(last) = last else { return Ok(epochs) };
        if last.epoch == 1 {
            return Ok(vec![Epoch { epoch: 1, first_seq: 1, last_seq: last.seq }]);
        }
        let mut stream = self.engine.read(&self.shard.name, None);
        while let Some(entries) = stream.next().await {
            for Mark { epoch, seq } in
                entries?.into_iter().map(|entry| entry.mark).filter(|mark| *mark <= last)
            {
                match epochs.last_mut() {
                    Some(known) if known.epoch == epoch => known.last_seq = seq,
                    _ => epochs.push(Epoch { epoch, first_seq: seq, last_seq: seq }),
                }
            }
        }
        Ok(epochs)
    }
}

/// A comparison in progress.
struct Weighing<'a> {
    ledger: Ledgered<'a>,
    epochs: Vec<Epoch>,
    entries: i64,
    void: i64,
    dropped: i64,
    before: Option<Mark>,
    /// The next number that must come.
    next: i64,
    stream: Sha256,
    recorded: Sha256,
    difference_count: i64,
    differences: Vec<Difference>,
    first_difference: Option<i64>,
}

impl<'a> Weighing<'a> {
    fn new(ledger: Ledgered<'a>, epochs: Vec<Epoch>) -> Self {
        Self {
            ledger,
            epochs,
            entries: 0,
            void: 0,
            dropped: 0,
            before: None,
            next: 1,
            stream: Sha256::new(),
            recorded: Sha256::new(),
            difference_count: 0,
            differences: Vec::new(),
            first_difference: None,
        }
    }

    fn differs(&mut self, seq: i64, what: String) {
        self.difference_count += 1;
        self.first_difference = Some(self.first_difference.map_or(seq, |first| first.min(seq)));
        if self.differences.len() < NAMED {
            self.differences.push(Difference { seq, what });
        }
    }

    /// Takes the stream's next entry.
    async fn add(&mut self, entry: Entry) -> Result<()> {
        let mark = entry.mark;
        self.entries += 1;
        if let Some(before) = self.before.filter(|before| !follows(*before, mark)) {
            self.differs(mark.seq, format!("{mark} comes after {before}"));
        }
        self.before = Some(mark);
        if self.epochs.iter().any(|later| later.epoch > mark.epoch && later.first_seq <= mark.seq) {
            self.void += 1;
            return Ok(());
        }
        add_to(&mut self.stream, &entry);
        if mark.seq < self.next {
            // A repetition: named above, and the sums differ.
            return Ok(());
        }
        self.lacks(mark.seq).await?;
        let expected = self.ledger.entry(mark).await?;
        match &expected {
            None if self.ledger.has_dropped(&entry).await? => {
                self.dropped += 1;
                add_to(&mut self.recorded, &entry);
            }
            None => self.differs(mark.seq, format!("{}: the ledger has no such event", event(&entry))),
            Some(expected) => {
                add_to(&mut self.recorded, expected);
                if let Some(how) = difference(&entry, expected) {
                    self.differs(mark.seq, format!("{}: {how}", event(expected)));
                }
            }
        }
        self.next = mark.seq + 1;
        Ok(())
    }

    /// The ledger's events up to a number, which the stream has passed over.
    async fn lacks(&mut self, up_to: i64) -> Result<()> {
        while self.next < up_to {
            let expected = self.ledger.entry(Mark { epoch: 0, seq: self.next }).await?;
            let what = match &expected {
                Some(expected) => format!("{}: not in the stream", event(expected)),
                None => "neither in the stream nor in the ledger".to_owned(),
            };
            expected.iter().for_each(|expected| add_to(&mut self.recorded, expected));
            self.differs(self.next, what);
            self.next += 1;
        }
        Ok(())
    }

    fn proof(self, of: &Verifier<'_>, progress: Progress, last: Option<Mark>) -> Proof {
        let standing = judge(&progress, last);
        let alarm = match &standing {
            Standing::Alarm(alarm) => Some(alarm.to_string()),
            _ => None,
        };
        let exported_seq = last.map_or(0, |last| last.seq);
        Proof {
            shard: of.shard.name.clone(),
            engine: of.engine.name(),
            epochs: self.epochs,
            entries: self.entries,
            void: self.void,
            dropped: self.dropped,
            exported_seq,
            not_yet_exported: (progress.last_seq - exported_seq).max(0),
            stream_sha256: hex(self.stream),
            ledger_sha256: hex(self.recorded),
            difference_count: self.difference_count,
            differences: self.differences,
            alarm,
            standing,
            progress,
            last,
            first_difference: self.first_difference,
        }
    }
}

/// Whether an entry may come right after another.
fn follows(before: Mark, mark: Mark) -> bool {
    if mark.epoch == before.epoch {
        mark.seq == before.seq + 1
    } else {
        mark.epoch > before.epoch && mark.seq <= before.seq + 1
    }
}

fn add_to(sum: &mut Sha256, entry: &Entry) {
    // What is unreadable is a difference anyway.
    sum.update(content(&entry.body).unwrap_or_default().as_bytes());
    sum.update(b"\n");
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names an entry's event.
fn event(entry: &Entry) -> String {
    let body: serde_json::Value = serde_json::from_slice(&entry.body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or("?").to_owned();
    format!("event {}/{}", text("type"), text("event_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_goes_on_without_a_gap_and_the_next_begins_at_or_below_its_end() {
        let mark = |epoch, seq| Mark { epoch, seq };
        for (before, after) in [((1, 1), (1, 2)), ((1, 9), (2, 10)), ((1, 9), (2, 1)), ((1, 9), (3, 5))] {
            assert!(follows(mark(before.0, before.1), mark(after.0, after.1)), "{before:?} {after:?}");
        }
        for (before, after) in
            [((1, 1), (1, 1)), ((1, 1), (1, 3)), ((1, 2), (1, 1)), ((1, 9), (2, 11)), ((2, 9), (1, 10))]
        {
            assert!(!follows(mark(before.0, before.1), mark(after.0, after.1)), "{before:?} {after:?}");
        }
    }
}
