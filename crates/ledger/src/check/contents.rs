//! Whether events say what their writers said: the hash that was kept with each one's key.

use std::collections::{HashMap, VecDeque};

use store::Result;
use uuid::Uuid;

use super::report::{Kind, Report};
use super::rows::{EventRow, OfAccount as _};
use super::snapshot::Snapshot;
use super::twice::Twice;
use crate::events::Said;
use crate::json;

/// Checks a page of events, in one round trip.
pub(super) async fn check(
    shard: &str,
    snapshot: &mut Snapshot,
    events: &VecDeque<EventRow>,
    twice: &mut Twice,
    report: &mut Report,
) -> Result<()> {
    let mut said = Vec::with_capacity(events.len());
    for event in events {
        match hashes(event) {
            Ok((key, content)) => {
                let (_, account) = event.account();
                twice.seen(key, account.unwrap_or_default().0, &event.event_id);
                said.push((event, key, content));
            }
            Err(what) => report.add(Some(shard), Kind::Content, format!("event {}: {what}", event.event_id)),
        }
    }
    let keys: Vec<Uuid> = said.iter().map(|(_, key, _)| *key).collect();
    let kept: Vec<(Uuid, Uuid)> =
        sqlx::query_as(CONTENTS).bind(keys).fetch_all(snapshot.connection()).await?;
    let kept: HashMap<Uuid, Uuid> = kept.into_iter().collect();
    for (event, key, content) in said {
        let what = match kept.get(&key) {
            Some(kept) if *kept == content => continue,
            Some(_) => "is not what was written: time, account, attributes, amount or info was changed",
            None => "has no key: it was not written through the ledger, or was given another id",
        };
        let (_, account) = event.account();
        let name = account.unwrap_or_default().0;
        report.add(Some(shard), Kind::Content, format!("event {name}/{} {what}", event.event_id));
    }
    Ok(())
}

/// The hashes of an event's key and content; or why it has none.
fn hashes(event: &EventRow) -> std::result::Result<(Uuid, Uuid), String> {
    let (id, account) = event.account();
    let (type_name, account) = account.ok_or_else(|| format!("its account ({id}) is not there"))?;
    let tuple = event.tuple.as_deref().ok_or("its auxiliary attributes are not there")?;
    let amount = event.amount().ok_or("its amount is none that the ledger takes")?;
    let info = event.info.as_deref().map(json::canonical).transpose();
    let info = info.map_err(|_| "its info is no JSON that the ledger takes".to_owned())?.unwrap_or_default();
    let (event_id, dt) = (event.event_id.as_str(), event.dt);
    let said = Said { type_name, event_id, dt, account, tuple, amount, info: &info };
    Ok((said.key(), said.content()))
}

const CONTENTS: &str = "SELECT key, content FROM event_keys WHERE key = ANY ($1) -- check_contents";
