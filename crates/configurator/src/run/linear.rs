//! Hazard: a transaction that iterates over all steps of its run, which makes a run of 10,000
//! blocks cost 10,000 × 10,000.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Map, json};

use super::progress::{RunContext, RunProgress};
use super::status::{BlockStatus, RunStatus};
use super::write::RunChanges;
use crate::ids::{BlockId, InstanceId, RunId};
use crate::protocol::BlockAnswer;
use crate::template::{self, Env};

/// A fan of independent blocks, or a chain.
fn build_context(blocks: usize, chain: bool) -> RunContext {
    let mut text = "type: module\nname: global\nblocks:\n".to_owned();
    for n in 0..blocks {
        let needs = if chain && n > 0 { format!("b{}.id", n - 1) } else { String::new() };
        text += &format!(
            "  - {{name: b{n}, type: integration, integration: q.do, inputs: [{needs}], outputs: [id], args: {{n: {n}}}}}\n"
        );
    }
    let graph = template::parse_template(&text).unwrap();
    let instance = ("t".to_owned(), Env::Test);
    RunContext::new(
        (InstanceId(1), RunId(1)),
        instance,
        graph,
        Map::new(),
        (Vec::new(), HashMap::new()),
        Duration::from_secs(300),
    )
}

/// CPU time of this thread: wall-clock time would include other load on the machine.
fn read_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// CPU time of a whole run with one answer per transaction.
fn time_run(blocks: usize, chain: bool) -> Duration {
    let context = build_context(blocks, chain);
    let started_at = read_cpu_time();
    let pending = vec![BlockStatus::Pending; blocks];
    let (mut progress, _) =
        RunProgress::new(&context, pending, Vec::new(), vec![None; blocks], vec![None; blocks]);
    let (now, mut number) = (Utc::now(), 0_i64);
    let mut waiting = std::collections::VecDeque::new();
    while progress.run_result(&context).is_none() {
        let mut changes = RunChanges::default();
        if let Some(block_id) = waiting.pop_front() {
            let step = progress.step_of_block(block_id).unwrap();
            let state = Map::from_iter([("id".to_owned(), json!(1))]);
            progress.apply_answer(
                &context,
                step,
                BlockAnswer { block_id, outcome: Ok(state) },
                &mut changes,
            );
        }
        progress.expire_steps(&context, now, &mut changes);
        let ready = progress.ready_steps.len() as i64;
        let block_ids = (number..number + ready).map(BlockId).collect();
        progress.send_ready_steps(&context, now, block_ids, &mut changes);
        number += changes.sends.len() as i64;
        waiting.extend(changes.sends.iter().map(|send| send.block_id));
        assert!(progress.next_deadline().is_some() || progress.open_count == 0);
    }
    assert_eq!(progress.run_result(&context).unwrap().0, RunStatus::Succeeded);
    assert_eq!(number, blocks as i64);
    read_cpu_time() - started_at
}

#[test]
fn four_times_the_blocks_take_about_four_times_as_long() {
    for chain in [false, true] {
        // The minimum of three, as other processes disturb the measurement.
        let least = |blocks| (0..3).map(|_| time_run(blocks, chain)).min().unwrap_or_default();
        let (small, large) = (least(1000), least(4000));
        assert!(large < 10 * small, "chain {chain}: {small:?} for 1000, {large:?} for 4000");
    }
}

#[test]
fn what_is_late_is_given_up_and_nothing_else() {
    let context = build_context(3, false);
    let pending = vec![BlockStatus::Pending; 3];
    let (mut progress, _) =
        RunProgress::new(&context, pending, Vec::new(), vec![None; 3], vec![None; 3]);
    let now = Utc::now();
    let mut changes = RunChanges::default();
    progress.send_ready_steps(&context, now, vec![BlockId(1)], &mut changes);
    let later = now + TimeDelta::seconds(100);
    progress.send_ready_steps(&context, later, vec![BlockId(2), BlockId(3)], &mut changes);
    let first = now + TimeDelta::seconds(300);
    assert_eq!(progress.next_deadline(), Some(first));
    let mut changes = RunChanges::default();
    progress.expire_steps(&context, first - TimeDelta::milliseconds(1), &mut changes);
    assert!(changes.blocks.is_empty());
    progress.expire_steps(&context, first, &mut changes);
    assert_eq!(changes.blocks.len(), 1);
    assert_eq!(progress.step_of_block(BlockId(1)), None);
    assert_eq!(progress.step_of_block(BlockId(2)), Some(1));
    assert_eq!(progress.next_deadline(), Some(later + TimeDelta::seconds(300)));
}
