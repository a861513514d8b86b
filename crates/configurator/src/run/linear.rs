//! Hazard: a step that looks at all steps of its run: a graph of ten thousand blocks would look ten thousand times at ten
//! thousand.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::{Map, json};

use super::progress::{Frame, Progress};
use super::status::{BlockStatus, RunStatus};
use super::write::Changes;
use crate::protocol::Answer;
use crate::template::{self, Env};

/// A fan (all wait for an answer at once), or a chain.
fn frame(blocks: usize, chain: bool) -> Frame {
    let mut text = "type: module\nname: global\nblocks:\n".to_owned();
    for n in 0..blocks {
        let needs = if chain && n > 0 { format!("b{}.id", n - 1) } else { String::new() };
        text += &format!(
            "  - {{name: b{n}, type: integration, integration: q.do, inputs: [{needs}], outputs: [id], args: {{n: {n}}}}}\n"
        );
    }
    let graph = template::parse(&text).unwrap();
    let place = ("t".to_owned(), Env::Test);
    Frame::new((1, 1), place, graph, Map::new(), (Vec::new(), HashMap::new()), Duration::from_secs(300))
}

/// How long it takes to carry a run to its end, one answer a step.
fn run(blocks: usize, chain: bool) -> Duration {
    let frame = frame(blocks, chain);
    let begun = Instant::now();
    let pending = vec![BlockStatus::Pending; blocks];
    let (mut progress, _) =
        Progress::new(&frame, pending, Vec::new(), vec![None; blocks], vec![None; blocks]);
    let (now, mut number) = (Utc::now(), 0);
    let mut waiting = std::collections::VecDeque::new();
    while progress.result(&frame).is_none() {
        let mut changes = Changes::default();
        if let Some(block_id) = waiting.pop_front() {
            let step = progress.step_of(block_id).unwrap();
            let state = Map::from_iter([("id".to_owned(), json!(1))]);
            progress.answer(&frame, step, Answer { block_id, outcome: Ok(state) }, &mut changes);
        }
        progress.time_out(&frame, now, &mut changes);
        let ready = progress.ready.len() as i64;
        progress.send(&frame, now, (number..number + ready).collect(), &mut changes);
        number += changes.sends.len() as i64;
        waiting.extend(changes.sends.iter().map(|send| send.block_id));
        assert!(progress.next_deadline().is_some() || progress.open == 0);
    }
    assert_eq!(progress.result(&frame).unwrap().0, RunStatus::Succeeded);
    assert_eq!(number, blocks as i64);
    begun.elapsed()
}

#[test]
fn four_times_the_blocks_take_about_four_times_as_long() {
    for chain in [false, true] {
        // The least of three, as others are at work as well.
        let least = |blocks| (0..3).map(|_| run(blocks, chain)).min().unwrap_or_default();
        let (small, large) = (least(1000), least(4000));
        assert!(large < 10 * small, "chain {chain}: {small:?} for 1000, {large:?} for 4000");
    }
}

#[test]
fn what_is_late_is_given_up_and_nothing_else() {
    let frame = frame(3, false);
    let pending = vec![BlockStatus::Pending; 3];
    let (mut progress, _) = Progress::new(&frame, pending, Vec::new(), vec![None; 3], vec![None; 3]);
    let now = Utc::now();
    let mut changes = Changes::default();
    progress.send(&frame, now, vec![1], &mut changes);
    let later = now + TimeDelta::seconds(100);
    progress.send(&frame, later, vec![2, 3], &mut changes);
    let first = now + TimeDelta::seconds(300);
    assert_eq!(progress.next_deadline(), Some(first));
    let mut changes = Changes::default();
    progress.time_out(&frame, first - TimeDelta::milliseconds(1), &mut changes);
    assert!(changes.blocks.is_empty());
    progress.time_out(&frame, first, &mut changes);
    assert_eq!(changes.blocks.len(), 1);
    assert_eq!((progress.step_of(1), progress.step_of(2)), (None, Some(1)));
    assert_eq!(progress.next_deadline(), Some(later + TimeDelta::seconds(300)));
}
