//! `KEY=VALUE` arguments of a command.

use super::CommandFailure;

/// Attributes in argument order. Names of query options are refused.
pub(super) fn parse_attributes(words: &[String]) -> Result<Vec<(String, String)>, CommandFailure> {
    words.iter().map(|word| parse_attribute(word)).collect()
}

fn parse_attribute(word: &str) -> Result<(String, String), CommandFailure> {
    let pair = word.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| {
        CommandFailure::Usage(format!("`{word}` is not KEY=VALUE (such as storage_id=7)"))
    })?;
    if ledger::types::RESERVED_ATTRIBUTE_NAMES.contains(&name) {
        let option = name.replace('_', "-");
        return Err(CommandFailure::Usage(format!(
            "`{word}`: no attribute has this name (is --{option} meant?)"
        )));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        let taken = |word| parse_attribute(word).ok().unwrap();
        for (word, name, value) in
            [("n=-7", "n", "-7"), ("label=a=b c", "label", "a=b c"), ("label=", "label", "")]
        {
            assert_eq!(taken(word), (name.to_owned(), value.to_owned()));
        }
    }

    #[test]
    fn what_is_no_attribute_is_wrong_usage() {
        for word in ["", "storage_id", "=7", "limit=3", "group_by=a", "at=2024-01-01T00:00:00Z"] {
            assert!(matches!(parse_attribute(word), Err(CommandFailure::Usage(_))), "{word}");
        }
    }
}
