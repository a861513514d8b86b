//! Evaluation of expressions within a budget, as a few references can expand to a large text.

use serde_json::{Map, Value as Json};

use super::{BlockGraph, BlockGraphNode, BlockValueSource, Expression, TextPiece};

/// Budget of a block's params, approximately in bytes of JSON.
pub const MAX_PARAMS_BYTES: usize = 900 << 10;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvaluationError {
    /// The answer of the block at this node index lacks this output.
    MissingOutput(usize, String),
    /// The value exceeds [`MAX_PARAMS_BYTES`].
    TooLarge,
}

/// The values that references resolve to in a run.
pub struct EvaluationContext<'r> {
    /// The graph of the template.
    pub graph: &'r BlockGraph,
    /// The resolved inputs of the run.
    pub inputs: &'r Map<String, Json>,
    /// The state of the block at a node index, if it has one.
    pub state: &'r dyn Fn(usize) -> Option<&'r Map<String, Json>>,
}

struct BudgetedEvaluation<'v, 'r> {
    context: &'v EvaluationContext<'r>,
    remaining_bytes: usize,
}

impl EvaluationContext<'_> {
    /// Evaluates an expression, after all blocks it refers to have answered.
    pub fn evaluate(
        &self,
        expression: &Expression<BlockValueSource>,
    ) -> Result<Json, EvaluationError> {
        BudgetedEvaluation { context: self, remaining_bytes: MAX_PARAMS_BYTES }
            .evaluate_within_budget(expression)
    }
}

impl BudgetedEvaluation<'_, '_> {
    fn evaluate_within_budget(
        &mut self,
        expression: &Expression<BlockValueSource>,
    ) -> Result<Json, EvaluationError> {
        self.spend_bytes(8)?;
        Ok(match expression {
            Expression::Literal(value) => self.copy_value(value)?,
            Expression::List(items) => Json::Array(
                items
                    .iter()
                    .map(|item| self.evaluate_within_budget(item))
                    .collect::<Result<_, _>>()?,
            ),
            Expression::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    self.spend_bytes(key.len())?;
                    map.insert(key.clone(), self.evaluate_within_budget(value)?);
                }
                Json::Object(map)
            }
            Expression::Whole(source) => self.evaluate_source(source)?,
            Expression::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        TextPiece::Text(plain) => text.push_str(plain),
                        TextPiece::Value(source) => match self.evaluate_source(source)? {
                            Json::String(value) => text.push_str(&value),
                            value => text.push_str(&value.to_string()),
                        },
                    }
                }
                self.spend_bytes(text.len())?;
                Json::String(text)
            }
        })
    }

    fn evaluate_source(&mut self, source: &BlockValueSource) -> Result<Json, EvaluationError> {
        self.spend_bytes(8)?;
        let context = self.context;
        match source {
            BlockValueSource::Input(name) => match context.inputs.get(name) {
                Some(value) => self.copy_value(value),
                None => Ok(Json::Null),
            },
            BlockValueSource::Output(index, output) => {
                let value = (context.state)(*index).and_then(|state| state.get(output));
                let value =
                    value.ok_or_else(|| EvaluationError::MissingOutput(*index, output.clone()))?;
                self.copy_value(value)
            }
            // The length of chains of wires was limited when the template was parsed.
            BlockValueSource::Wire(index) => match context.graph.nodes.get(*index) {
                Some(BlockGraphNode::Wire(expression)) => self.evaluate_within_budget(expression),
                _ => Ok(Json::Null),
            },
        }
    }

    fn copy_value(&mut self, value: &Json) -> Result<Json, EvaluationError> {
        self.spend_bytes(json_size(value))?;
        Ok(value.clone())
    }

    fn spend_bytes(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.remaining_bytes =
            self.remaining_bytes.checked_sub(bytes).ok_or(EvaluationError::TooLarge)?;
        Ok(())
    }
}

/// Approximate size as JSON text. JSON and YAML parsers limit the depth.
fn json_size(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => items.iter().map(|item| json_size(item) + 1).sum::<usize>() + 2,
        Json::Object(map) => {
            map.iter().map(|(key, value)| key.len() + json_size(value) + 4).sum::<usize>() + 2
        }
    }
}
