//! Check of event contents against the fingerprints in `event_keys`.

use std::collections::{HashMap, VecDeque};

use store::Result;
use uuid::Uuid;

use super::account::{LedgerCheckContext, hash_shard_key};
use super::duplicates::DuplicateEventKeys;
use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::rows::{AccountRow as _, LedgerCheckEventRow};
use super::snapshot::ShardSnapshot;
use super::types::MissingAccountTypes;
use crate::events::LedgerEventContent;
use crate::json;

/// Check of the contents of a shard's events.
pub(super) struct EventContentCheck<'c> {
    context: &'c LedgerCheckContext<'c>,
    duplicates: &'c mut DuplicateEventKeys,
    missing_types: MissingAccountTypes,
}

/// Why hash and fingerprint of an event cannot be computed.
enum UncheckableEvent {
    MissingType(String),
    Other(String),
}

impl From<&str> for UncheckableEvent {
    fn from(what: &str) -> Self {
        Self::Other(what.to_owned())
    }
}

impl<'c> EventContentCheck<'c> {
    pub(super) fn new(
        context: &'c LedgerCheckContext<'c>,
        duplicates: &'c mut DuplicateEventKeys,
    ) -> Self {
        Self { context, duplicates, missing_types: MissingAccountTypes::default() }
    }

    /// Checks a page of events in one round trip.
    pub(super) async fn check_page(
        &mut self,
        snapshot: &mut ShardSnapshot,
        events: &VecDeque<LedgerCheckEventRow>,
        report: &mut LedgerCheckReport,
    ) -> Result<()> {
        let shard = &self.context.shard.name;
        let mut hashed_events = Vec::with_capacity(events.len());
        for event in events {
            match hash_event(event, self.context) {
                Ok((key, content)) => {
                    let (_, account) = event.account();
                    self.duplicates.note_event(key, account.unwrap_or_default().0, &event.event_id);
                    hashed_events.push((event, key, content));
                }
                Err(UncheckableEvent::MissingType(name)) => self.missing_types.count_event(&name),
                Err(UncheckableEvent::Other(what)) => report.add_difference(
                    Some(shard),
                    LedgerCheckKind::Content,
                    format!("event {}: {what}", event.event_id),
                ),
            }
        }
        let keys: Vec<Uuid> = hashed_events.iter().map(|(_, key, _)| *key).collect();
        let stored: Vec<(Uuid, Uuid)> = store::statement("check_contents", READ_FINGERPRINTS_SQL)
            .bind(keys)
            .fetch_all(snapshot.connection())
            .await?;
        let stored_fingerprints: HashMap<Uuid, Uuid> = stored.into_iter().collect();
        for (event, key, content) in hashed_events {
            let what = match stored_fingerprints.get(&key) {
                Some(kept) if *kept == content => continue,
                Some(_) => {
                    "is not what was written: time, account, attributes, amount or info was changed"
                }
                None => {
                    "has no key: it was not written through the ledger, or was given another id"
                }
            };
            let (_, account) = event.account();
            let name = account.unwrap_or_default().0;
            report.add_difference(
                Some(shard),
                LedgerCheckKind::Content,
                format!("event {name}/{} {what}", event.event_id),
            );
        }
        Ok(())
    }

    /// Reports each missing type once.
    pub(super) fn report_missing_types(self, report: &mut LedgerCheckReport) {
        self.missing_types.add_to_report(&self.context.shard.name, report);
    }
}

/// Hash and fingerprint of an event.
fn hash_event(
    event: &LedgerCheckEventRow,
    context: &LedgerCheckContext<'_>,
) -> std::result::Result<(Uuid, Uuid), UncheckableEvent> {
    let (id, account) = event.account();
    let (type_name, account) = account
        .ok_or_else(|| UncheckableEvent::Other(format!("its account ({id}) is not there")))?;
    let shard_hash = hash_shard_key(context, type_name, account)
        .ok_or_else(|| UncheckableEvent::MissingType(type_name.to_owned()))?;
    let attribute_set = event.tuple.as_deref().ok_or("its auxiliary attributes are not there")?;
    let amount = event.parse_amount().ok_or("its amount is none that the ledger takes")?;
    let info = event.info.as_deref().map(json::canonicalize_json).transpose();
    let info = info.map_err(|_| "its info is no JSON that the ledger takes")?.unwrap_or_default();
    let (event_id, dt) = (event.event_id.as_str(), event.dt);
    let content =
        LedgerEventContent { type_name, event_id, dt, account, attribute_set, amount, info: &info };
    Ok((content.key_hash(shard_hash), content.content_fingerprint()))
}

const READ_FINGERPRINTS_SQL: &str = "SELECT key, content FROM event_keys WHERE key = ANY ($1)";
