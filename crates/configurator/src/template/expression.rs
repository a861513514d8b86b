//! Values with references, in `args` and in the inputs and outputs of modules.

use serde_json::Value as Json;
use yaml::{YamlNode, YamlTree};

use super::names::{can_continue_name, leading_name};

/// A value with references, either as written or resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression<R> {
    /// A value without references.
    Literal(Json),
    /// A list with a reference in some item.
    List(Vec<Expression<R>>),
    /// A mapping with a reference in some value.
    Map(Vec<(String, Expression<R>)>),
    /// The referenced value, with its type.
    Whole(R),
    /// Text with embedded references.
    Text(Vec<TextPiece<R>>),
}

/// A piece of such text.
#[derive(Debug, Clone, PartialEq)]
pub enum TextPiece<R> {
    /// Plain text, after unescaping `$$`.
    Text(String),
    /// A referenced value, converted to text.
    Value(R),
}

/// `$block.output` as written in the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockReference {
    pub(super) block: String,
    pub(super) output: String,
    pub(super) line: u32,
}

/// Parses a value; faults are reported with their line.
pub(super) fn read_expression(
    tree: &YamlTree,
    report_fault: &mut dyn FnMut(u32, String),
) -> Expression<BlockReference> {
    match tree.as_node() {
        YamlNode::Scalar(Json::String(text)) => read_text_expression(text, tree.line, report_fault),
        YamlNode::Scalar(value) => Expression::Literal(value.clone()),
        YamlNode::List(items) => {
            let items: Vec<_> =
                items.iter().map(|item| read_expression(item, report_fault)).collect();
            if items.iter().all(|item| matches!(item, Expression::Literal(_))) {
                return Expression::Literal(
                    items.into_iter().map(Expression::into_literal).collect(),
                );
            }
            Expression::List(items)
        }
        YamlNode::Map(entries) => {
            for (key, value) in entries {
                if let Some(reference) = find_reference(key) {
                    let reason = format!(
                        "`{reference}` in a key: keys are taken as they are written, only values can be references"
                    );
                    report_fault(value.line, reason);
                }
            }
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| (key.clone(), read_expression(value, report_fault)))
                .collect();
            if entries.iter().all(|(_, value)| matches!(value, Expression::Literal(_))) {
                return Expression::Literal(Json::Object(
                    entries.into_iter().map(|(key, value)| (key, value.into_literal())).collect(),
                ));
            }
            Expression::Map(entries)
        }
    }
}

fn read_text_expression(
    text: &str,
    line: u32,
    report_fault: &mut dyn FnMut(u32, String),
) -> Expression<BlockReference> {
    if let Some((reference, path)) = split_deeper_path(text) {
        let reason = format!(
            "`${reference}{path}`: a reference is to a whole output, $block.output; `{path}` is no part of it (if it is text: ${{{reference}}}{path})"
        );
        report_fault(line, reason);
        return Expression::Literal(Json::Null);
    }
    let mut pieces = match parse_text_pieces(text, line) {
        Ok(pieces) => pieces,
        Err(reason) => {
            report_fault(line, reason);
            Vec::new()
        }
    };
    match pieces.as_slice() {
        [] => Expression::Literal(Json::String(String::new())),
        [TextPiece::Text(text)] => Expression::Literal(Json::String(text.clone())),
        [TextPiece::Value(_)] => match pieces.pop() {
            Some(TextPiece::Value(reference)) => Expression::Whole(reference),
            _ => Expression::Literal(Json::Null),
        },
        _ => Expression::Text(pieces),
    }
}

/// The leading reference of a text, and the rest, if the rest looks like a path into the value
/// (`.c`, `[0]`) and nothing else. As text it would be appended to the whole value.
fn split_deeper_path(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('$')?;
    let (block, output) = parse_reference(text)?;
    let (reference, path) = text.split_at(block.len() + 1 + output.len());
    let mut rest = path;
    while !rest.is_empty() {
        rest = match rest.strip_prefix('.') {
            Some(after) => {
                let end = after.find(|c| !can_continue_name(c) && c != '-').unwrap_or(after.len());
                (end > 0).then_some(&after[end..])?
            }
            None => rest.strip_prefix('[')?.split_once(']')?.1,
        };
    }
    (!path.is_empty()).then_some((reference, path))
}

/// The first reference in a text that may contain none.
pub(super) fn find_reference(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((block, output)) =
            parse_reference(rest.strip_prefix('{').unwrap_or(rest))
        {
            return Some(format!("${block}.{output}"));
        }
    }
    None
}

/// Splits a text: `$block.output` and `${block.output}` are references, `$$` is a dollar sign, any
/// other `$` is an error.
pub(super) fn parse_text_pieces(
    text: &str,
    line: u32,
) -> Result<Vec<TextPiece<BlockReference>>, String> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(position) = rest.find('$') {
        plain.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        let (block, output, length) = parse_braced_reference(rest).ok_or_else(|| {
            let shown: String =
                rest.chars().take_while(|c| can_continue_name(*c) || *c == '.').take(80).collect();
            format!("`${shown}` is no reference: write $block.output, and $$ for a dollar")
        })?;
        if !plain.is_empty() {
            pieces.push(TextPiece::Text(std::mem::take(&mut plain)));
        }
        rest = &rest[length..];
        pieces.push(TextPiece::Value(BlockReference {
            block: block.to_owned(),
            output: output.to_owned(),
            line,
        }));
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(TextPiece::Text(plain));
    }
    Ok(pieces)
}

/// Parses a leading `block.output` or `{block.output}`; also returns its length.
fn parse_braced_reference(text: &str) -> Option<(&str, &str, usize)> {
    let inner = text.strip_prefix('{');
    let (block, output) = parse_reference(inner.unwrap_or(text))?;
    let length = block.len() + 1 + output.len();
    match inner {
        Some(inner) => inner[length..].starts_with('}').then_some((block, output, length + 2)),
        None => Some((block, output, length)),
    }
}

/// Parses a leading `block.output` into its two names.
fn parse_reference(text: &str) -> Option<(&str, &str)> {
    let block = leading_name(text)?;
    let output = leading_name(text[block.len()..].strip_prefix('.')?)?;
    Some((block, output))
}

/// Parses a text that is exactly one reference, with or without the dollar sign.
pub(super) fn parse_whole_reference(text: &str, line: u32) -> Option<BlockReference> {
    let text = text.strip_prefix('$').unwrap_or(text);
    let (block, output) = parse_reference(text)?;
    let whole = block.len() + 1 + output.len() == text.len();
    whole.then(|| BlockReference { block: block.to_owned(), output: output.to_owned(), line })
}

impl<R> Expression<R> {
    /// The value of an expression without references.
    fn into_literal(self) -> Json {
        match self {
            Expression::Literal(value) => value,
            _ => Json::Null,
        }
    }

    /// Collects all references in the order of the text.
    pub fn collect_references<'a>(&'a self, found: &mut Vec<&'a R>) {
        match self {
            Expression::Literal(_) => {}
            Expression::List(items) => items.iter().for_each(|item| item.collect_references(found)),
            Expression::Map(entries) => {
                entries.iter().for_each(|(_, value)| value.collect_references(found))
            }
            Expression::Whole(reference) => found.push(reference),
            Expression::Text(pieces) => {
                found.extend(pieces.iter().filter_map(|piece| match piece {
                    TextPiece::Value(reference) => Some(reference),
                    TextPiece::Text(_) => None,
                }))
            }
        }
    }

    /// Replaces all references. One for which `of` returns `None` becomes null.
    pub fn map_references<S>(&self, of: &mut dyn FnMut(&R) -> Option<S>) -> Expression<S> {
        match self {
            Expression::Literal(value) => Expression::Literal(value.clone()),
            Expression::List(items) => {
                Expression::List(items.iter().map(|item| item.map_references(of)).collect())
            }
            Expression::Map(entries) => Expression::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), value.map_references(of)))
                    .collect(),
            ),
            Expression::Whole(reference) => {
                of(reference).map_or(Expression::Literal(Json::Null), Expression::Whole)
            }
            Expression::Text(pieces) => {
                let mut mapped = Vec::new();
                for piece in pieces {
                    match piece {
                        TextPiece::Text(text) => mapped.push(TextPiece::Text(text.clone())),
                        TextPiece::Value(reference) => {
                            mapped.extend(of(reference).map(TextPiece::Value));
                        }
                    }
                }
                Expression::Text(mapped)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show_pieces(text: &str) -> String {
        let piece = |piece: TextPiece<BlockReference>| match piece {
            TextPiece::Text(text) => format!("[{text}]"),
            TextPiece::Value(of) => format!("<{}/{}>", of.block, of.output),
        };
        match parse_text_pieces(text, 1) {
            Ok(pieces) => pieces.into_iter().map(piece).collect(),
            Err(reason) => reason.split(':').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn what_looks_like_a_way_into_a_value_is_none() {
        for (text, expected) in [
            ("$a.obj.c", Some(("a.obj", ".c"))),
            ("$a.obj.c.d-e.0", Some(("a.obj", ".c.d-e.0"))),
            ("$a.list[0]", Some(("a.list", "[0]"))),
            ("$a.list[0].x['y']", Some(("a.list", "[0].x['y']"))),
            ("$a.obj", None),
            ("$a.obj.", None),
            ("$a.host:80", None),
            ("$a.name/x.txt", None),
            ("$a.b-$a.c.d", None),
            ("see $a.obj.c", None),
            ("${a.name}.txt", None),
            ("$$a.b.c", None),
        ] {
            assert_eq!(split_deeper_path(text), expected, "{text}");
        }
    }

    #[test]
    fn references_where_there_are_none_are_noticed() {
        for (text, expected) in [
            ("$a.id", Some("$a.id")),
            ("x ${a.id}", Some("$a.id")),
            ("$schema", None),
            ("$$a.id", None),
            ("5 $", None),
        ] {
            assert_eq!(find_reference(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn references_dollars_and_text() {
        for (text, expected) in [
            ("", ""),
            ("plain", "[plain]"),
            ("$a.b", "<a/b>"),
            ("text $a.b text", "[text ]<a/b>[ text]"),
            ("$a.b$c.d", "<a/b><c/d>"),
            ("$a.b-$a.c.", "<a/b>[-]<a/c>[.]"),
            ("$a.b.c", "<a/b>[.c]"),
            ("${a.b}.c", "<a/b>[.c]"),
            ("x${a.b}c${a.b}", "[x]<a/b>[c]<a/b>"),
            ("${a.b", "`$` is no reference"),
            ("${a}", "`$` is no reference"),
            ("$${a.b}", "[${a.b}]"),
            ("$$", "[$]"),
            ("$$a.b", "[$a.b]"),
            ("$$$a.b", "[$]<a/b>"),
            ("5 $", "`$` is no reference"),
            ("$5", "`$5` is no reference"),
            ("$a", "`$a` is no reference"),
            ("$a.", "`$a.` is no reference"),
            ("$\u{fc}.b", "`$` is no reference"),
        ] {
            assert_eq!(show_pieces(text), expected, "{text}");
        }
    }
}
