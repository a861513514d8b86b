//! Sending of a step: what its message says, or how it ends without one.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::super::plan::block_dependencies;
use super::super::status::BlockStatus;
use super::super::write::{BlockChange, BlockSend, RunChanges, SentBlock};
use super::{RunContext, RunProgress, evaluation_failure, json_text};
use crate::ids::BlockId;
use crate::protocol::{self, BlockAction, BlockFailure, BlockTask};
use crate::template::{Block, BlockGraphNode, EvaluationContext};

/// A message to an integration, before it has an id and a deadline.
struct PreparedSend<'c> {
    queue: &'c str,
    task_type: &'c str,
    action: BlockAction,
    params: String,
    digest: String,
    /// The integration's previous result, as JSON.
    state: Option<String>,
    depends_on: Option<Vec<String>>,
}

impl RunProgress {
    pub(super) fn send_step(
        &mut self,
        context: &RunContext,
        step: usize,
        now: DateTime<Utc>,
        block_id: BlockId,
        changes: &mut RunChanges,
    ) {
        let send = match self.prepare_send(context, step) {
            Ok(send) => send,
            Err((status, failure)) => {
                return self.end_step(context, step, status, failure, changes);
            }
        };
        let message = BlockTask {
            block_id,
            group: protocol::message_group(&context.template_name, context.env, context.name(step)),
            task_type: send.task_type,
            action: send.action,
            params: &send.params,
            state: send.state.as_deref(),
        };
        let message = message.to_message();
        if let Err(error) = message.validate() {
            let failure = BlockFailure::new("TOO_LARGE", json!({"reason": error.to_string()}));
            return self.end_step(context, step, BlockStatus::Failed, Some(failure), changes);
        }
        let deadline = now + context.step_timeout(step);
        self.statuses[step] = BlockStatus::Sent;
        self.block_ids[step] = block_id;
        self.step_deadlines[step] = Some(deadline);
        self.sent_steps.insert(block_id, step);
        self.deadline_queue.insert((deadline, step));
        changes.messages.push((context.env.queue_name(send.queue), message));
        let PreparedSend { action, params, state, digest, depends_on, .. } = send;
        changes.sends.push(BlockSend { block_id, step, action, params, state, digest, depends_on });
        changes.blocks.push(BlockChange {
            step,
            status: BlockStatus::Sent,
            sent: Some(SentBlock { action, block_id, deadline }),
            state: None,
            failure: None,
        });
    }

    /// What to send for a step, or how the step ends without a message.
    fn prepare_send<'c>(
        &mut self,
        context: &'c RunContext,
        step: usize,
    ) -> Result<PreparedSend<'c>, (BlockStatus, Option<BlockFailure>)> {
        match context.graph.nodes.get(step) {
            Some(BlockGraphNode::Block(block)) => self.prepare_block(context, step, block),
            _ => self.prepare_deletion(context, step),
        }
    }

    fn prepare_block<'c>(
        &mut self,
        context: &RunContext,
        step: usize,
        block: &'c Block,
    ) -> Result<PreparedSend<'c>, (BlockStatus, Option<BlockFailure>)> {
        let values = EvaluationContext {
            graph: &context.graph,
            inputs: &context.inputs,
            state: &|index: usize| self.states[index].as_deref(),
        };
        let params = match values.evaluate(&block.args) {
            Ok(params) => params.to_string(),
            Err(error) => {
                return Err((BlockStatus::Failed, Some(evaluation_failure(context, error))));
            }
        };
        let digest = block.params_fingerprint(&params);
        let stored = self.stored_blocks[step].as_ref();
        if let Some(stored) = stored
            .filter(|stored| block.cache && !stored.orphaned && stored.digest == digest)
            // A preceding deletion may have deleted the same object: no cache hit then.
            .filter(|_| !context.deletions_first.contains_key(&step))
        {
            self.states[step] = Some(stored.state.clone());
            return Err((BlockStatus::Cached, None));
        }
        Ok(PreparedSend {
            queue: &block.queue,
            task_type: &block.task_type,
            action: if stored.is_some() { BlockAction::Update } else { BlockAction::Create },
            params,
            digest,
            state: stored.map(|stored| json_text(&stored.state)),
            depends_on: block_dependencies(&context.graph, step),
        })
    }

    fn prepare_deletion<'c>(
        &self,
        context: &'c RunContext,
        step: usize,
    ) -> Result<PreparedSend<'c>, (BlockStatus, Option<BlockFailure>)> {
        let deletion = &context.deletions[step - context.graph.nodes.len()];
        let Some(stored) = &self.stored_blocks[step] else {
            // A late answer has already removed the stored block.
            return Err((BlockStatus::Succeeded, None));
        };
        let integration = &deletion.integration;
        let (queue, task_type) = integration.split_once('.').unwrap_or((integration, ""));
        Ok(PreparedSend {
            queue,
            task_type,
            action: BlockAction::Delete,
            params: stored.params.clone(),
            digest: String::new(),
            state: Some(json_text(&stored.state)),
            depends_on: None,
        })
    }
}
