//! From expressions to values, within a budget: a few references can stand for a large text.

use serde_json::{Map, Value as Json};

use super::{Expression, Graph, Node, Piece, Source};

/// Largest params of a block, roughly in bytes.
pub const MOST_PARAMS: usize = 900 << 10;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The block at this place has answered without this output.
    Missing(usize, String),
    /// It would be larger than [`MOST_PARAMS`].
    TooLarge,
}

/// What references lead to in a run.
pub struct Values<'r> {
    /// The template.
    pub graph: &'r Graph,
    /// The run's inputs.
    pub inputs: &'r Map<String, Json>,
    /// What the block at a place has answered.
    pub state: &'r dyn Fn(usize) -> Option<&'r Map<String, Json>>,
}

struct Evaluation<'v, 'r> {
    values: &'v Values<'r>,
    room: usize,
}

impl Values<'_> {
    /// The value of an expression whose blocks have all answered.
    pub fn of(&self, expression: &Expression<Source>) -> Result<Json, Trouble> {
        Evaluation { values: self, room: MOST_PARAMS }.of(expression)
    }
}

impl Evaluation<'_, '_> {
    fn of(&mut self, expression: &Expression<Source>) -> Result<Json, Trouble> {
        self.take(8)?;
        Ok(match expression {
            Expression::Literal(value) => self.taken(value)?,
            Expression::List(items) => {
                Json::Array(items.iter().map(|item| self.of(item)).collect::<Result<_, _>>()?)
            }
            Expression::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    self.take(key.len())?;
                    map.insert(key.clone(), self.of(value)?);
                }
                Json::Object(map)
            }
            Expression::Whole(source) => self.source(source)?,
            Expression::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(plain) => text.push_str(plain),
                        Piece::Value(source) => match self.source(source)? {
                            Json::String(value) => text.push_str(&value),
                            value => text.push_str(&value.to_string()),
                        },
                    }
                }
                self.take(text.len())?;
                Json::String(text)
            }
        })
    }

    fn source(&mut self, source: &Source) -> Result<Json, Trouble> {
        self.take(8)?;
        let values = self.values;
        match source {
            Source::Input(name) => match values.inputs.get(name) {
                Some(value) => self.taken(value),
                None => Ok(Json::Null),
            },
            Source::Output(place, output) => {
                let value = (values.state)(*place).and_then(|state| state.get(output));
                let value = value.ok_or_else(|| Trouble::Missing(*place, output.clone()))?;
                self.taken(value)
            }
            // Wires lead to wires only so often: the template was checked for that.
            Source::Wire(place) => match values.graph.nodes.get(*place) {
                Some(Node::Wire(expression)) => self.of(expression),
                _ => Ok(Json::Null),
            },
        }
    }

    fn taken(&mut self, value: &Json) -> Result<Json, Trouble> {
        self.take(size(value))?;
        Ok(value.clone())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.room = self.room.checked_sub(bytes).ok_or(Trouble::TooLarge)?;
        Ok(())
    }
}

/// Roughly the bytes of its text. Values come from JSON and YAML, which bound their depth.
fn size(value: &Json) -> usize {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Json::Object(map) => map.iter().map(|(key, value)| key.len() + size(value) + 4).sum::<usize>() + 2,
    }
}
