//! A part of a call before it is written: each event once, or a contradiction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sqlx::PgConnection;
use store::Result;
use uuid::Uuid;

use super::{Event, Status};

/// A part of a call.
pub(crate) enum Part {
    /// No id comes with different contents: what is sent, and how the statuses of all are made of those of the ones sent.
    Sound(Vec<Event>, Repeated),
    /// Nothing of it can be written.
    Contradictory(Contradiction),
}

/// The events of a part that came more than once in it.
pub(crate) struct Repeated {
    /// For each event of the part: its place among those that are sent, and whether it is the first of its key.
    places: Vec<(usize, bool)>,
}

impl Repeated {
    /// The statuses of all events from those of the ones that were sent.
    pub(crate) fn put_back(&self, sent: Vec<Status>) -> Vec<Status> {
        let status = |(place, first): &(usize, bool)| match sent[*place] {
            Status::Created if !first => Status::Duplicate,
            status => status,
        };
        self.places.iter().map(status).collect()
    }
}

/// A part in which an id comes with different contents. Only the database knows what is there of it.
#[derive(Debug)]
pub(crate) struct Contradiction {
    keys: Vec<Uuid>,
    contents: Vec<Uuid>,
    /// Which events say something else than an earlier one with their id.
    otherwise: Vec<bool>,
}

impl Contradiction {
    /// What each event is, beside what is in the database. Writes nothing.
    pub(crate) async fn judge(&self, connection: &mut PgConnection) -> Result<Vec<Status>> {
        let there: Vec<Option<bool>> = sqlx::query_scalar(
            "SELECT e.content = k.content FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS k (key, content, place)
             LEFT JOIN event_keys e ON e.key = k.key ORDER BY k.place -- judge_events",
        )
        .bind(&self.keys)
        .bind(&self.contents)
        .fetch_all(connection)
        .await?;
        Ok(self.statuses(there.into_iter(), Status::NotWritten))
    }

    /// As far as it can be said without the database.
    pub(crate) fn unanswered(&self) -> Vec<Status> {
        self.statuses(self.keys.iter().map(|_| None), Status::Unavailable)
    }

    fn statuses(&self, there: impl Iterator<Item = Option<bool>>, otherwise: Status) -> Vec<Status> {
        let status = |(there, contradicts)| match there {
            Some(true) => Status::Duplicate,
            Some(false) => Status::Conflict,
            None if contradicts => Status::Contradiction,
            None => otherwise,
        };
        there.zip(self.otherwise.iter().copied()).map(status).collect()
    }
}

/// Each event of a part once, unless it contradicts itself.
pub(crate) fn once_each(events: Vec<Event>) -> Part {
    let mut seen: HashMap<Uuid, usize> = HashMap::with_capacity(events.len());
    let mut first: Vec<usize> = Vec::with_capacity(events.len());
    let mut repeated = Repeated { places: Vec::with_capacity(events.len()) };
    let mut otherwise = vec![false; events.len()];
    for (n, event) in events.iter().enumerate() {
        match seen.entry(event.key) {
            Entry::Occupied(place) => {
                otherwise[n] = events[first[*place.get()]].content != event.content;
                repeated.places.push((*place.get(), false));
            }
            Entry::Vacant(place) => {
                place.insert(first.len());
                repeated.places.push((first.len(), true));
                first.push(n);
            }
        }
    }
    if otherwise.contains(&true) {
        let of = |part: fn(&Event) -> Uuid| events.iter().map(part).collect();
        return Part::Contradictory(Contradiction {
            keys: of(|event| event.key),
            contents: of(|event| event.content),
            otherwise,
        });
    }
    let mut firsts = repeated.places.iter().map(|(_, is_first)| *is_first);
    let sent = events.into_iter().filter(|_| firsts.next().unwrap_or(true)).collect();
    Part::Sound(sent, repeated)
}
