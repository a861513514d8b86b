//! The `KEY=VALUE` words of a command.

use clap::ArgMatches;

use super::Failure;

/// Named values in the order they were given. What is an option of the ledger's queries is not taken as an attribute.
pub(super) fn attributes(args: &ArgMatches) -> Result<Vec<(String, String)>, Failure> {
    args.get_many::<String>("attribute").into_iter().flatten().map(|word| attribute(word)).collect()
}

fn attribute(word: &str) -> Result<(String, String), Failure> {
    let pair = word.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) =
        pair.ok_or_else(|| Failure::Usage(format!("`{word}` is not KEY=VALUE (such as storage_id=7)")))?;
    if ledger::types::RESERVED.contains(&name) {
        let option = name.replace('_', "-");
        return Err(Failure::Usage(format!("`{word}`: no attribute has this name (is --{option} meant?)")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        let taken = |word| attribute(word).ok().unwrap();
        for (word, name, value) in
            [("n=-7", "n", "-7"), ("label=a=b c", "label", "a=b c"), ("label=", "label", "")]
        {
            assert_eq!(taken(word), (name.to_owned(), value.to_owned()));
        }
    }

    #[test]
    fn what_is_no_attribute_is_wrong_usage() {
        for word in ["", "storage_id", "=7", "limit=3", "group_by=a", "at=2024-01-01T00:00:00Z"] {
            assert!(matches!(attribute(word), Err(Failure::Usage(_))), "{word}");
        }
    }
}
