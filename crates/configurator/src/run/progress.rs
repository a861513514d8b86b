//! A run in memory, and how it goes on: pure. What [`Progress`] decides is written in one transaction; if that fails, it is
//! forgotten, and read anew. Nothing here looks at all steps, but for reading it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json, json};

use super::plan::{Deletion, Stored, dependencies};
use super::status::{BlockStatus, RunStatus};
use super::write::{BlockChange, Changes, Send};
use crate::protocol::{self, Action, Answer, Failure, Task};
use crate::template::{Env, Graph, Node, Trouble, Values};

/// Steps that need no integration (cached ones, failures) in one transaction, at most.
const MOST_AT_ONCE: usize = 2000;

/// What does not change while a run goes on.
pub(super) struct Frame {
    pub(super) instance_id: i64,
    pub(super) run_id: i64,
    pub(super) template_name: String,
    pub(super) env: Env,
    pub(super) graph: Graph,
    pub(super) inputs: Map<String, Json>,
    pub(super) deletions: Vec<Deletion>,
    /// Of blocks that come after deletions of what they may be about, those deletions' steps.
    pub(super) first: HashMap<usize, Vec<usize>>,
    /// Of each step, those that wait for it.
    pub(super) before: Vec<Vec<usize>>,
    /// How long a block may take that says nothing of it.
    pub(super) block_timeout: Duration,
}

/// Where each step stands.
pub(super) struct Progress {
    pub(super) status: Vec<BlockStatus>,
    /// How many steps each one waits for.
    pub(super) waiting: Vec<u32>,
    pub(super) block_id: Vec<i64>,
    pub(super) deadline: Vec<Option<DateTime<Utc>>>,
    pub(super) state: Vec<Option<Arc<Map<String, Json>>>>,
    pub(super) stored: Vec<Option<Arc<Stored>>>,
    pub(super) sent: HashMap<i64, usize>,
    /// Those that were sent, by when they are given up.
    pub(super) deadlines: BTreeSet<(DateTime<Utc>, usize)>,
    pub(super) ready: VecDeque<usize>,
    pub(super) open: usize,
}

impl Frame {
    pub(super) fn new(
        ids: (i64, i64),
        place: (String, Env),
        graph: Graph,
        inputs: Map<String, Json>,
        (deletions, first): (Vec<Deletion>, HashMap<usize, Vec<usize>>),
        block_timeout: Duration,
    ) -> Self {
        let steps = graph.nodes.len() + deletions.len();
        let mut before = vec![Vec::new(); steps];
        let first_of = |place: usize| first.get(&place).into_iter().flatten().copied();
        let needs = graph.nodes.iter().enumerate();
        let needs = needs.map(|(place, node)| node.needs().into_iter().chain(first_of(place)).collect());
        for (step, needs) in needs.chain(deletions.iter().map(|deletion| deletion.after.clone())).enumerate()
        {
            needs.iter().filter(|need| **need < steps).for_each(|need| before[*need].push(step));
        }
        let ((instance_id, run_id), (template_name, env)) = (ids, place);
        Self {
            instance_id,
            run_id,
            template_name,
            env,
            graph,
            inputs,
            deletions,
            first,
            before,
            block_timeout,
        }
    }

    fn name(&self, step: usize) -> &str {
        match self.graph.nodes.get(step) {
            Some(Node::Block(block)) => &block.name,
            Some(Node::Wire(_)) => "",
            None => &self.deletions[step - self.graph.nodes.len()].name,
        }
    }

    /// The queue of a step's integration.
    pub(super) fn queue(&self, step: usize) -> String {
        match self.graph.nodes.get(step) {
            Some(Node::Block(block)) => self.env.queue(&block.queue),
            Some(Node::Wire(_)) => String::new(),
            None => {
                let integration = &self.deletions[step - self.graph.nodes.len()].integration;
                self.env.queue(integration.split('.').next().unwrap_or_default())
            }
        }
    }

    fn timeout(&self, step: usize) -> Duration {
        match self.graph.nodes.get(step) {
            Some(Node::Block(block)) => block.timeout.unwrap_or(self.block_timeout),
            _ => self.block_timeout,
        }
    }
}

impl Progress {
    /// Steps that stand as given, with everything that follows from it.
    pub(super) fn new(
        frame: &Frame,
        status: Vec<BlockStatus>,
        rows: Vec<(usize, i64, Option<DateTime<Utc>>)>,
        state: Vec<Option<Arc<Map<String, Json>>>>,
        stored: Vec<Option<Arc<Stored>>>,
    ) -> (Self, Changes) {
        let steps = status.len();
        let mut waiting = vec![0_u32; steps];
        for waiter in frame.before.iter().flatten() {
            waiting[*waiter] += 1;
        }
        let mut progress = Self {
            waiting,
            block_id: vec![0; steps],
            deadline: vec![None; steps],
            state,
            stored,
            sent: HashMap::new(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            open: steps,
            status: vec![BlockStatus::Pending; steps],
        };
        for (step, block_id, deadline) in rows {
            progress.block_id[step] = block_id;
            progress.deadline[step] = deadline;
            if status[step] == BlockStatus::Sent {
                progress.sent.insert(block_id, step);
                progress.deadlines.extend(deadline.map(|deadline| (deadline, step)));
            }
        }
        let mut changes = Changes::default();
        let idle: Vec<usize> = (0..steps).filter(|step| progress.waiting[*step] == 0).collect();
        for (step, status) in status.iter().enumerate() {
            progress.status[step] = *status;
        }
        for step in idle.into_iter().filter(|step| !status[*step].is_end()) {
            progress.now_free(frame, step, &mut changes);
        }
        for step in (0..steps).filter(|step| status[*step].is_end()) {
            progress.open -= 1;
            progress.tell(frame, step, &mut changes);
        }
        (progress, changes)
    }

    /// What a message was about that is still waited for.
    pub(super) fn step_of(&self, block_id: i64) -> Option<usize> {
        self.sent.get(&block_id).copied()
    }

    /// Takes an answer to a step that waits for it.
    pub(super) fn answer(&mut self, frame: &Frame, step: usize, answer: Answer, changes: &mut Changes) {
        let is_deletion = step >= frame.graph.nodes.len();
        match answer.outcome {
            Ok(_) if is_deletion => {
                changes.delete_stored.push(self.key(frame, step));
                self.end(frame, step, BlockStatus::Succeeded, None, changes);
            }
            Err(failure) if is_deletion => {
                changes.orphan_stored.push(self.key(frame, step));
                self.end(frame, step, BlockStatus::Orphaned, Some(failure), changes);
            }
            Ok(state) => {
                let state = Arc::new(state);
                self.state[step] = Some(state.clone());
                changes.store.push((answer.block_id, json_text(&state)));
                self.end(frame, step, BlockStatus::Succeeded, None, changes);
            }
            Err(failure) => self.end(frame, step, BlockStatus::Failed, Some(failure), changes),
        }
    }

    fn key(&self, frame: &Frame, step: usize) -> (String, String, i64) {
        let deletion = &frame.deletions[step - frame.graph.nodes.len()];
        (deletion.name.clone(), deletion.integration.clone(), self.block_id[step])
    }

    /// Gives up what has not been answered in time.
    pub(super) fn time_out(&mut self, frame: &Frame, now: DateTime<Utc>, changes: &mut Changes) {
        while let Some((deadline, step)) = self.deadlines.first().copied()
            && deadline <= now
        {
            let block_id = self.block_id[step];
            let seconds = frame.timeout(step).as_secs_f64();
            let args = json!({"block_timeout_seconds": seconds});
            changes.given_up.push((step, block_id));
            self.end(frame, step, BlockStatus::Failed, Some(Failure::new("TIMEOUT", args)), changes);
        }
    }

    /// Sends what is ready, as far as the numbers reach.
    pub(super) fn send(
        &mut self,
        frame: &Frame,
        now: DateTime<Utc>,
        numbers: Vec<i64>,
        changes: &mut Changes,
    ) {
        let mut numbers = numbers.into_iter();
        for _ in 0..MOST_AT_ONCE {
            let Some(step) = self.ready.pop_front() else { return };
            if let Some(Node::Wire(_)) = frame.graph.nodes.get(step) {
                self.end(frame, step, BlockStatus::Succeeded, None, changes);
                continue;
            }
            let Some(number) = numbers.next() else {
                self.ready.push_front(step);
                return;
            };
            self.one(frame, step, (now, number), changes);
        }
    }

    fn one(&mut self, frame: &Frame, step: usize, at: (DateTime<Utc>, i64), changes: &mut Changes) {
        let task = match frame.graph.nodes.get(step) {
            Some(Node::Block(block)) => {
                let state = |place: usize| self.state[place].as_deref();
                let values = Values { graph: &frame.graph, inputs: &frame.inputs, state: &state };
                let params = match values.of(&block.args) {
                    Ok(params) => params.to_string(),
                    Err(trouble) => {
                        let failure = misfit(frame, trouble);
                        return self.end(frame, step, BlockStatus::Failed, Some(failure), changes);
                    }
                };
                let digest = block.digest(&params);
                let stored = self.stored[step].clone();
                if let Some(stored) = stored
                    .as_ref()
                    .filter(|stored| block.cache && !stored.orphaned && stored.digest == digest)
                    // What was deleted may have been the same thing.
                    .filter(|_| !frame.first.contains_key(&step))
                {
                    self.state[step] = Some(stored.state.clone());
                    return self.end(frame, step, BlockStatus::Cached, None, changes);
                }
                let action = if stored.is_some() { Action::Update } else { Action::Create };
                let queue = (block.queue.clone(), block.task.clone());
                (queue, action, params, digest, stored, dependencies(&frame.graph, step))
            }
            _ => {
                let deletion = &frame.deletions[step - frame.graph.nodes.len()];
                let Some(stored) = self.stored[step].clone() else {
                    // A late answer has done it meanwhile.
                    return self.end(frame, step, BlockStatus::Succeeded, None, changes);
                };
                let (queue, task) =
                    deletion.integration.split_once('.').unwrap_or((&deletion.integration, ""));
                let queue = (queue.to_owned(), task.to_owned());
                (queue, Action::Delete, stored.params.clone(), String::new(), Some(stored), None)
            }
        };
        let ((queue, task), action, params, digest, stored, depends_on) = task;
        let state = stored.map(|stored| json_text(&stored.state));
        let group = protocol::group(&frame.template_name, frame.env, frame.name(step));
        let (now, block_id) = at;
        let message = Task { block_id, group, task: &task, action, params: &params, state: state.as_deref() };
        let message = message.message();
        if let Err(error) = message.check() {
            let failure = Failure::new("TOO_LARGE", json!({"reason": error.to_string()}));
            return self.end(frame, step, BlockStatus::Failed, Some(failure), changes);
        }
        let deadline = now + frame.timeout(step);
        self.status[step] = BlockStatus::Sent;
        self.block_id[step] = block_id;
        self.deadline[step] = Some(deadline);
        self.sent.insert(block_id, step);
        self.deadlines.insert((deadline, step));
        changes.messages.push((frame.env.queue(&queue), message));
        changes.sends.push(Send { block_id, step, action, params, state, digest, depends_on });
        let sent = Some((action, block_id, deadline));
        changes.blocks.push(BlockChange {
            step,
            status: BlockStatus::Sent,
            sent,
            state: None,
            failure: None,
        });
    }

    /// Ends a step; those that wait for it become ready, or are skipped.
    fn end(
        &mut self,
        frame: &Frame,
        step: usize,
        status: BlockStatus,
        failure: Option<Failure>,
        changes: &mut Changes,
    ) {
        self.finish(frame, step, status, failure, changes);
        self.tell(frame, step, changes);
    }

    fn finish(
        &mut self,
        frame: &Frame,
        step: usize,
        status: BlockStatus,
        failure: Option<Failure>,
        changes: &mut Changes,
    ) {
        self.sent.remove(&self.block_id[step]);
        if let Some(deadline) = self.deadline[step] {
            self.deadlines.remove(&(deadline, step));
        }
        self.status[step] = status;
        self.open -= 1;
        if !matches!(frame.graph.nodes.get(step), Some(Node::Wire(_))) {
            let state = self.state[step].as_ref().map(|state| json_text(state));
            changes.blocks.push(BlockChange { step, status, sent: None, state, failure });
        }
    }

    /// Tells those that wait for a step that it has ended. Not by recursion: chains are long.
    fn tell(&mut self, frame: &Frame, step: usize, changes: &mut Changes) {
        let mut ended = vec![step];
        while let Some(step) = ended.pop() {
            for waiter in &frame.before[step] {
                self.waiting[*waiter] = self.waiting[*waiter].saturating_sub(1);
                if self.status[*waiter] != BlockStatus::Pending {
                    continue;
                }
                if !self.status[step].is_good() {
                    self.finish(frame, *waiter, BlockStatus::Skipped, None, changes);
                    ended.push(*waiter);
                } else if self.waiting[*waiter] == 0 {
                    self.now_free(frame, *waiter, changes);
                }
            }
        }
    }

    fn now_free(&mut self, _: &Frame, step: usize, _: &mut Changes) {
        if self.status[step] == BlockStatus::Pending {
            self.ready.push_back(step);
        }
    }

    /// When something must happen by itself.
    pub(super) fn next_deadline(&self) -> Option<DateTime<Utc>> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How the run has ended, if it has, and its outputs.
    pub(super) fn result(&self, frame: &Frame) -> Option<(RunStatus, Map<String, Json>)> {
        if self.open > 0 {
            return None;
        }
        let failed = self.status.iter().any(|status| !status.is_good());
        let state = |place: usize| self.state[place].as_deref();
        let values = Values { graph: &frame.graph, inputs: &frame.inputs, state: &state };
        let output = |(name, expression): &(String, _)| Some((name.clone(), values.of(expression).ok()?));
        let outputs = frame.graph.outputs.iter().filter_map(output).collect();
        Some((if failed { RunStatus::Failed } else { RunStatus::Succeeded }, outputs))
    }
}

fn misfit(frame: &Frame, trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Missing(place, output) => {
            let reason = format!("block {} has answered without its output {output}", frame.name(place));
            let args = json!({"block": frame.name(place), "output": output, "reason": reason});
            Failure::new("CONSISTENCY_ERROR", args)
        }
        Trouble::TooLarge => {
            let reason = format!("the block's params are larger than {} bytes", crate::template::MOST_PARAMS);
            Failure::new("TOO_LARGE", json!({"reason": reason}))
        }
    }
}

pub(super) fn json_text(map: &Map<String, Json>) -> String {
    // Maps of JSON always have a text.
    serde_json::to_string(map).unwrap_or_default()
}
