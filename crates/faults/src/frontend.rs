//! Parser of a client's message flow: executed named statements and commits.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::WireMessage;

/// A request that a client made to the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrontendRequest {
    /// Start-up of a connection.
    Connect,
    /// A statement, with the names in its comments.
    Statement { names: Vec<Arc<str>> },
    /// A commit of a transaction in which statements with these names were executed.
    Commit { transaction: Vec<Arc<str>> },
}

/// A prepared statement, or the text of a simple query.
#[derive(Debug, Clone)]
struct NamedStatement {
    names: Vec<Arc<str>>,
    verb: String,
}

/// State of one connection's frontend protocol.
#[derive(Default)]
pub(crate) struct FrontendState {
    prepared: HashMap<Vec<u8>, NamedStatement>,
    portals: HashMap<Vec<u8>, NamedStatement>,
    /// Names of the statements executed since the last begin, commit or rollback.
    transaction: Vec<Arc<str>>,
    /// Number of `ReadyForQuery` replies requested so far, including those still to come.
    requested_replies: u64,
}

impl FrontendState {
    /// Returns the execution that the message requests, if any. Requires every message, in order.
    pub(crate) fn observe_message(&mut self, message: &WireMessage) -> Option<FrontendRequest> {
        match message.kind {
            0 => {
                self.requested_replies += 1;
                Some(FrontendRequest::Connect)
            }
            b'Q' => {
                let statement = parse_statement(message.c_strings(1).next()?);
                let request = self.observe_statement(&statement);
                self.requested_replies += 1;
                Some(request)
            }
            b'P' => {
                let mut texts = message.c_strings(2);
                let name = texts.next()?.to_vec();
                self.prepared.insert(name, parse_statement(texts.next()?));
                None
            }
            b'B' => {
                let mut texts = message.c_strings(2);
                let portal = texts.next()?.to_vec();
                let statement = self.prepared.get(texts.next()?)?.clone();
                self.portals.insert(portal, statement);
                None
            }
            b'E' => {
                let statement = self.portals.get(message.c_strings(1).next()?)?.clone();
                Some(self.observe_statement(&statement))
            }
            b'C' => {
                let (kind, name) = message.body().split_first()?;
                let name = name.strip_suffix(&[0]).unwrap_or(name);
                if *kind == b'S' {
                    self.prepared.remove(name)
                } else {
                    self.portals.remove(name)
                };
                None
            }
            b'S' | b'F' => {
                self.requested_replies += 1;
                None
            }
            _ => None,
        }
    }

    /// Number, from 1, of the server's reply to the latest execution. Call
    /// it directly after [`Self::observe_message`].
    pub(crate) fn reply_number(&self, message: &WireMessage) -> u64 {
        // An extended query's reply ends with the Sync that follows.
        self.requested_replies + u64::from(message.kind == b'E')
    }

    fn observe_statement(&mut self, statement: &NamedStatement) -> FrontendRequest {
        match statement.verb.as_str() {
            "commit" | "end" => {
                FrontendRequest::Commit { transaction: std::mem::take(&mut self.transaction) }
            }
            "begin" | "start" | "rollback" | "abort" => {
                self.transaction.clear();
                FrontendRequest::Statement { names: statement.names.clone() }
            }
            _ => {
                for name in &statement.names {
                    if !self.transaction.contains(name) {
                        self.transaction.push(name.clone());
                    }
                }
                FrontendRequest::Statement { names: statement.names.clone() }
            }
        }
    }
}

fn parse_statement(sql: &[u8]) -> NamedStatement {
    let sql = String::from_utf8_lossy(sql);
    let names = sql.lines().filter_map(comment_name).map(Arc::from).collect();
    let mut lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default().trim());
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let verb: String = first.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    NamedStatement { names, verb: verb.to_ascii_lowercase() }
}

/// The name in `… -- name`: a comment of one word. Other comments are prose.
fn comment_name(line: &str) -> Option<&str> {
    let name = line.split_once("--")?.1.trim();
    (!name.is_empty() && name.chars().all(is_name_char)).then_some(name)
}

fn is_name_char(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_bears_the_names_in_its_comments_and_its_first_word() {
        let named = |sql: &str| {
            let statement = parse_statement(sql.as_bytes());
            (
                statement.names.iter().map(|name| name.to_string()).collect::<Vec<_>>(),
                statement.verb,
            )
        };
        assert_eq!(named("SELECT 1 -- one"), (vec!["one".to_owned()], "select".to_owned()));
        assert_eq!(
            named("-- renew_leases\nWITH a AS (\n -- In order of the ids\n SELECT 1) SELECT 2"),
            (vec!["renew_leases".to_owned()], "with".to_owned())
        );
        assert_eq!(named("COMMIT"), (vec![], "commit".to_owned()));
        assert_eq!(named(""), (vec![], String::new()));
    }
}
