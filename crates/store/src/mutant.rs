//! Seeded faults (mutants), each of which a test must detect (`make mutants`,
//! `docs/development.md`). They exist only in debug builds with the feature `mutants`.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` is for debug builds: what is released has no seeded faults");

/// Whether the environment variable `MUTANT` names this fault.
#[inline]
pub fn mutant(name: &'static str) -> bool {
    #[cfg(feature = "mutants")]
    return chosen() == Some(name);
    #[cfg(not(feature = "mutants"))]
    {
        let _ = name;
        false
    }
}

/// Fault selected for this process.
#[cfg(feature = "mutants")]
pub(crate) fn chosen() -> Option<&'static str> {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().filter(|name| !name.is_empty())).as_deref()
}
