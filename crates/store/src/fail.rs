//! Points at which a test lets the process die, as by `kill -9`. Only debug builds have them.

/// Ends the process here if the environment variable `FAIL_POINT` names this point; `name:3` means the third time it is passed.
#[inline]
pub fn fail_point(name: &'static str) {
    #[cfg(debug_assertions)]
    debug::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod debug {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pass(name: &'static str) {
        let wanted = WANTED.get_or_init(|| {
            let wanted = std::env::var("FAIL_POINT").ok()?;
            let (name, count) = wanted.split_once(':').unwrap_or((&wanted, "1"));
            Some((name.to_owned(), count.parse().ok()?))
        });
        if let Some((wanted, count)) = wanted
            && wanted == name
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
