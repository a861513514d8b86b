//! Seeded faults, each of which a test must notice (`make mutants`, `docs/development.md`). Only builds with the feature
//! `mutants` have them, and of those none is a release build.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` is for debug builds: what is released has no seeded faults");

/// Whether the fault of this name is to happen: the environment variable `MUTANT` names it.
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

/// The fault of this process.
#[cfg(feature = "mutants")]
pub(crate) fn chosen() -> Option<&'static str> {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().filter(|name| !name.is_empty())).as_deref()
}
