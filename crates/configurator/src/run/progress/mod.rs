//! A run in memory and its state machine. Pure.
//!
//! - Shape: the changes that [`RunProgress`] decides are written in one transaction. If that fails,
//!   the progress is discarded and loaded again.
//! - Cost: a change touches only its step and the dependents; only [`RunProgress::new`] and the end
//!   of a run visit all steps.

mod send;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json, json};

use super::plan::{BlockDeletion, StoredBlock};
use super::status::{BlockStatus, RunStatus};
use super::write::{BlockChange, RunChanges};
use crate::protocol::{BlockAnswer, BlockFailure};
use crate::template::{BlockGraph, BlockGraphNode, Env, EvaluationContext, EvaluationError};

/// Maximum ready steps handled per transaction, including those that send no
/// message (cache hits, failures).
const MAX_STEPS_PER_TX: usize = 2000;

/// The immutable part of a run.
pub(super) struct RunContext {
    pub(super) instance_id: i64,
    pub(super) run_id: i64,
    pub(super) template_name: String,
    pub(super) env: Env,
    pub(super) graph: BlockGraph,
    pub(super) inputs: Map<String, Json>,
    pub(super) deletions: Vec<BlockDeletion>,
    /// Deletion steps that precede a block, because both may be about the same object,
    /// by the block's step.
    pub(super) deletions_first: HashMap<usize, Vec<usize>>,
    /// For each step, the steps that wait for it.
    pub(super) dependents: Vec<Vec<usize>>,
    /// Timeout of blocks that set none.
    pub(super) block_timeout: Duration,
}

/// The state of every step, indexed by step.
pub(super) struct RunProgress {
    pub(super) statuses: Vec<BlockStatus>,
    /// For each step, the number of unfinished steps it waits for.
    pub(super) dependency_counts: Vec<u32>,
    pub(super) block_ids: Vec<i64>,
    pub(super) step_deadlines: Vec<Option<DateTime<Utc>>>,
    pub(super) states: Vec<Option<Arc<Map<String, Json>>>>,
    pub(super) stored_blocks: Vec<Option<Arc<StoredBlock>>>,
    pub(super) sent_steps: HashMap<i64, usize>,
    /// Sent steps by deadline.
    pub(super) deadline_queue: BTreeSet<(DateTime<Utc>, usize)>,
    pub(super) ready_steps: VecDeque<usize>,
    pub(super) open_count: usize,
}

impl RunContext {
    pub(super) fn new(
        ids: (i64, i64),
        instance: (String, Env),
        graph: BlockGraph,
        inputs: Map<String, Json>,
        (deletions, first): (Vec<BlockDeletion>, HashMap<usize, Vec<usize>>),
        block_timeout: Duration,
    ) -> Self {
        let mut needs: Vec<Vec<usize>> = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let mut node_needs = node.dependencies();
            node_needs.extend(first.get(&index).into_iter().flatten());
            needs.push(node_needs);
        }
        needs.extend(deletions.iter().map(|deletion| deletion.after_steps.clone()));
        let steps = needs.len();
        let mut dependents = vec![Vec::new(); steps];
        for (step, needs) in needs.into_iter().enumerate() {
            for need in needs.into_iter().filter(|need| *need < steps) {
                dependents[need].push(step);
            }
        }
        let ((instance_id, run_id), (template_name, env)) = (ids, instance);
        Self {
            instance_id,
            run_id,
            template_name,
            env,
            graph,
            inputs,
            deletions,
            deletions_first: first,
            dependents,
            block_timeout,
        }
    }

    fn name(&self, step: usize) -> &str {
        match self.graph.nodes.get(step) {
            Some(BlockGraphNode::Block(block)) => &block.name,
            Some(BlockGraphNode::Wire(_)) => "",
            None => &self.deletions[step - self.graph.nodes.len()].name,
        }
    }

    /// The full name of the queue of a step's integration.
    pub(super) fn queue_name(&self, step: usize) -> String {
        match self.graph.nodes.get(step) {
            Some(BlockGraphNode::Block(block)) => self.env.queue_name(&block.queue),
            Some(BlockGraphNode::Wire(_)) => String::new(),
            None => {
                let integration = &self.deletions[step - self.graph.nodes.len()].integration;
                self.env.queue_name(integration.split('.').next().unwrap_or_default())
            }
        }
    }

    fn step_timeout(&self, step: usize) -> Duration {
        match self.graph.nodes.get(step) {
            Some(BlockGraphNode::Block(block)) => block.timeout.unwrap_or(self.block_timeout),
            _ => self.block_timeout,
        }
    }
}

impl RunProgress {
    /// Builds the progress from stored statuses. The returned changes are those that follow and are
    /// not stored yet, such as skipped steps.
    pub(super) fn new(
        context: &RunContext,
        status: Vec<BlockStatus>,
        rows: Vec<(usize, i64, Option<DateTime<Utc>>)>,
        state: Vec<Option<Arc<Map<String, Json>>>>,
        stored: Vec<Option<Arc<StoredBlock>>>,
    ) -> (Self, RunChanges) {
        let steps = status.len();
        let mut waiting = vec![0_u32; steps];
        for waiter in context.dependents.iter().flatten() {
            waiting[*waiter] += 1;
        }
        let mut progress = Self {
            dependency_counts: waiting,
            block_ids: vec![0; steps],
            step_deadlines: vec![None; steps],
            states: state,
            stored_blocks: stored,
            sent_steps: HashMap::new(),
            deadline_queue: BTreeSet::new(),
            ready_steps: VecDeque::new(),
            open_count: steps,
            statuses: vec![BlockStatus::Pending; steps],
        };
        for (step, block_id, deadline) in rows {
            progress.block_ids[step] = block_id;
            progress.step_deadlines[step] = deadline;
            if status[step] == BlockStatus::Sent {
                progress.sent_steps.insert(block_id, step);
                progress.deadline_queue.extend(deadline.map(|deadline| (deadline, step)));
            }
        }
        let mut changes = RunChanges::default();
        let idle: Vec<usize> =
            (0..steps).filter(|step| progress.dependency_counts[*step] == 0).collect();
        for (step, status) in status.iter().enumerate() {
            progress.statuses[step] = *status;
        }
        for step in idle.into_iter().filter(|step| !status[*step].is_final()) {
            progress.mark_ready(context, step, &mut changes);
        }
        for step in (0..steps).filter(|step| status[*step].is_final()) {
            progress.open_count -= 1;
            progress.release_dependents(context, step, &mut changes);
        }
        (progress, changes)
    }

    /// The step that waits for an answer to this `block_id`.
    pub(super) fn step_of_block(&self, block_id: i64) -> Option<usize> {
        self.sent_steps.get(&block_id).copied()
    }

    /// Applies an answer to the step that waits for it.
    pub(super) fn apply_answer(
        &mut self,
        context: &RunContext,
        step: usize,
        answer: BlockAnswer,
        changes: &mut RunChanges,
    ) {
        let is_deletion = step >= context.graph.nodes.len();
        match answer.outcome {
            Ok(_) if is_deletion => {
                changes.deleted_blocks.push(self.stored_key(context, step));
                self.end_step(context, step, BlockStatus::Succeeded, None, changes);
            }
            Err(failure) if is_deletion => {
                changes.orphaned_blocks.push(self.stored_key(context, step));
                self.end_step(context, step, BlockStatus::Orphaned, Some(failure), changes);
            }
            Ok(state) => {
                let state = Arc::new(state);
                self.states[step] = Some(state.clone());
                changes.stored_states.push((answer.block_id, json_text(&state)));
                self.end_step(context, step, BlockStatus::Succeeded, None, changes);
            }
            Err(failure) => {
                self.end_step(context, step, BlockStatus::Failed, Some(failure), changes)
            }
        }
    }

    fn stored_key(&self, context: &RunContext, step: usize) -> (String, String, i64) {
        let deletion = &context.deletions[step - context.graph.nodes.len()];
        (deletion.name.clone(), deletion.integration.clone(), self.block_ids[step])
    }

    /// Fails the steps whose deadline has passed.
    pub(super) fn expire_steps(
        &mut self,
        context: &RunContext,
        now: DateTime<Utc>,
        changes: &mut RunChanges,
    ) {
        while let Some((deadline, step)) = self.deadline_queue.first().copied()
            && deadline <= now
        {
            let block_id = self.block_ids[step];
            let seconds = context.step_timeout(step).as_secs_f64();
            let args = json!({"block_timeout_seconds": seconds});
            changes.given_up.push((step, block_id));
            self.end_step(
                context,
                step,
                BlockStatus::Failed,
                Some(BlockFailure::new("TIMEOUT", args)),
                changes,
            );
        }
    }

    /// Sends ready steps as long as `block_ids` has unused numbers.
    pub(super) fn send_ready_steps(
        &mut self,
        context: &RunContext,
        now: DateTime<Utc>,
        block_ids: Vec<i64>,
        changes: &mut RunChanges,
    ) {
        let mut block_ids = block_ids.into_iter();
        for _ in 0..MAX_STEPS_PER_TX {
            let Some(step) = self.ready_steps.pop_front() else { return };
            if let Some(BlockGraphNode::Wire(_)) = context.graph.nodes.get(step) {
                self.end_step(context, step, BlockStatus::Succeeded, None, changes);
                continue;
            }
            let Some(block_id) = block_ids.next() else {
                self.ready_steps.push_front(step);
                return;
            };
            self.send_step(context, step, (now, block_id), changes);
        }
    }

    /// Ends a step, and makes its dependents ready or skips them.
    fn end_step(
        &mut self,
        context: &RunContext,
        step: usize,
        status: BlockStatus,
        failure: Option<BlockFailure>,
        changes: &mut RunChanges,
    ) {
        self.finish_step(context, step, status, failure, changes);
        self.release_dependents(context, step, changes);
    }

    fn finish_step(
        &mut self,
        context: &RunContext,
        step: usize,
        status: BlockStatus,
        failure: Option<BlockFailure>,
        changes: &mut RunChanges,
    ) {
        self.sent_steps.remove(&self.block_ids[step]);
        if let Some(deadline) = self.step_deadlines[step] {
            self.deadline_queue.remove(&(deadline, step));
        }
        self.statuses[step] = status;
        self.open_count -= 1;
        if !matches!(context.graph.nodes.get(step), Some(BlockGraphNode::Wire(_))) {
            let state = self.states[step].as_ref().map(|state| json_text(state));
            changes.blocks.push(BlockChange { step, status, sent: None, state, failure });
        }
    }

    /// Propagates the end of a step to its dependents. Iterative, as long chains
    /// would overflow the stack.
    fn release_dependents(&mut self, context: &RunContext, step: usize, changes: &mut RunChanges) {
        let mut ended = vec![step];
        while let Some(step) = ended.pop() {
            for waiter in &context.dependents[step] {
                self.dependency_counts[*waiter] = self.dependency_counts[*waiter].saturating_sub(1);
                if self.statuses[*waiter] != BlockStatus::Pending {
                    continue;
                }
                if !self.statuses[step].is_successful() {
                    self.finish_step(context, *waiter, BlockStatus::Skipped, None, changes);
                    ended.push(*waiter);
                } else if self.dependency_counts[*waiter] == 0 {
                    self.mark_ready(context, *waiter, changes);
                }
            }
        }
    }

    fn mark_ready(&mut self, _: &RunContext, step: usize, _: &mut RunChanges) {
        if self.statuses[step] == BlockStatus::Pending {
            self.ready_steps.push_back(step);
        }
    }

    /// The earliest deadline of a sent step.
    pub(super) fn next_deadline(&self) -> Option<DateTime<Utc>> {
        self.deadline_queue.first().map(|(deadline, _)| *deadline)
    }

    /// The final status and the outputs, once every step has ended.
    pub(super) fn run_result(
        &self,
        context: &RunContext,
    ) -> Option<(RunStatus, Map<String, Json>)> {
        if self.open_count > 0 {
            return None;
        }
        let failed = self.statuses.iter().any(|status| !status.is_successful());
        let values = EvaluationContext {
            graph: &context.graph,
            inputs: &context.inputs,
            state: &|index: usize| self.states[index].as_deref(),
        };
        let mut outputs = Map::new();
        for (name, expression) in &context.graph.outputs {
            if let Ok(value) = values.evaluate(expression) {
                outputs.insert(name.clone(), value);
            }
        }
        Some((if failed { RunStatus::Failed } else { RunStatus::Succeeded }, outputs))
    }
}

fn evaluation_failure(context: &RunContext, error: EvaluationError) -> BlockFailure {
    match error {
        EvaluationError::MissingOutput(index, output) => {
            let reason =
                format!("block {} has answered without its output {output}", context.name(index));
            let args = json!({"block": context.name(index), "output": output, "reason": reason});
            BlockFailure::new("CONSISTENCY_ERROR", args)
        }
        EvaluationError::TooLarge => {
            let reason = format!(
                "the block's params are larger than {} bytes",
                crate::template::MAX_PARAMS_BYTES
            );
            BlockFailure::new("TOO_LARGE", json!({"reason": reason}))
        }
    }
}

pub(crate) fn json_text(map: &Map<String, Json>) -> String {
    // Serializing a JSON map cannot fail.
    serde_json::to_string(map).unwrap_or_default()
}
