//! NATS subjects and subject patterns.

/// Subject of a shard's events.
pub(super) fn shard_subject(shard: &str) -> String {
    format!("ledger.events.{shard}")
}

/// Whether a pattern matches a subject: `*` matches one token, a final `>` one or more.
pub(super) fn pattern_covers(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    let mut patterns = pattern.split('.');
    loop {
        match (patterns.next(), words.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return patterns.next().is_none(),
            (Some("*"), Some(_)) => {}
            (Some(pattern), Some(word)) if pattern == word => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_as_the_server_says() {
        let subject = shard_subject("s0");
        for pattern in
            ["ledger.events.s0", "ledger.events.*", "ledger.>", ">", "*.events.*", "*.*.>"]
        {
            assert!(pattern_covers(pattern, &subject), "{pattern}");
        }
        for pattern in
            ["ledger.events", "ledger.events.s1", "ledger.*", "ledger.events.s0.>", "*.*.*.*", ""]
        {
            assert!(!pattern_covers(pattern, &subject), "{pattern}");
        }
    }
}
