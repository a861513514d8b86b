//! Check of event contents against the fingerprints in `event_keys`.

use std::collections::{HashMap, VecDeque};

use store::Result;
use uuid::Uuid;

use super::account::{LedgerCheckContext, hash_shard_key};
use super::duplicates::DuplicateEventKeys;
use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::rows::{AccountRow as _, LedgerCheckEventRow};
use super::snapshot::ShardSnapshot;
use crate::events::LedgerEventContent;
use crate::json;

/// Checks a page of events in one round trip.
pub(super) async fn check_event_contents(
    context: &LedgerCheckContext<'_>,
    snapshot: &mut ShardSnapshot,
    events: &VecDeque<LedgerCheckEventRow>,
    duplicates: &mut DuplicateEventKeys,
    report: &mut LedgerCheckReport,
) -> Result<()> {
    let mut hashed_events = Vec::with_capacity(events.len());
    for event in events {
        match hash_event(event, context) {
            Ok((key, content)) => {
                let (_, account) = event.account();
                duplicates.note_event(key, account.unwrap_or_default().0, &event.event_id);
                hashed_events.push((event, key, content));
            }
            Err(what) => report.add_difference(
                Some(&context.shard.name),
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
            None => "has no key: it was not written through the ledger, or was given another id",
        };
        let (_, account) = event.account();
        let name = account.unwrap_or_default().0;
        report.add_difference(
            Some(&context.shard.name),
            LedgerCheckKind::Content,
            format!("event {name}/{} {what}", event.event_id),
        );
    }
    Ok(())
}

/// Hash and fingerprint of an event, or why they cannot be computed.
fn hash_event(
    event: &LedgerCheckEventRow,
    context: &LedgerCheckContext<'_>,
) -> std::result::Result<(Uuid, Uuid), String> {
    let (id, account) = event.account();
    let (type_name, account) = account.ok_or_else(|| format!("its account ({id}) is not there"))?;
    let shard_hash = hash_shard_key(context, type_name, account)
        .ok_or_else(|| format!("its type {type_name} is not there"))?;
    let attribute_set = event.tuple.as_deref().ok_or("its auxiliary attributes are not there")?;
    let amount = event.parse_amount().ok_or("its amount is none that the ledger takes")?;
    let info = event.info.as_deref().map(json::canonicalize_json).transpose();
    let info = info
        .map_err(|_| "its info is no JSON that the ledger takes".to_owned())?
        .unwrap_or_default();
    let (event_id, dt) = (event.event_id.as_str(), event.dt);
    let content =
        LedgerEventContent { type_name, event_id, dt, account, attribute_set, amount, info: &info };
    Ok((content.key_hash(shard_hash), content.content_fingerprint()))
}

const READ_FINGERPRINTS_SQL: &str = "SELECT key, content FROM event_keys WHERE key = ANY ($1)";
