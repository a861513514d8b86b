//! The document's descriptions: paragraphs with inline `code`.

/// A span of plain text or of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProseSpan {
    pub(super) text: String,
    pub(super) code: bool,
}

/// Paragraphs, each a list of spans.
pub(super) type DocsProse = Vec<Vec<ProseSpan>>;

/// Parses a description: blank lines separate paragraphs, backticks mark code.
pub(super) fn parse_prose(text: &str) -> DocsProse {
    let paragraphs = text.trim().split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs
        .map(|paragraph| parse_spans(&paragraph.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn parse_spans(line: &str) -> Vec<ProseSpan> {
    let parts = line.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(n, part)| ProseSpan { text: part.to_owned(), code: n % 2 == 1 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_code() {
        let plain = |text: &str| ProseSpan { text: text.to_owned(), code: false };
        let code = |text: &str| ProseSpan { text: text.to_owned(), code: true };
        let read = parse_prose("`a` is\nfirst.\n\nThen <b>.\n");
        assert_eq!(read, [vec![code("a"), plain(" is first.")], vec![plain("Then <b>.")]]);
        assert!(parse_prose("").is_empty());
    }
}
