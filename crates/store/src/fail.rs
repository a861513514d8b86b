//! Fail points of debug builds: a test makes the process die as by `kill -9`, or pause.

/// Kills the process if the environment variable `FAIL_POINT` is this name; `name:3`
/// means the third pass.
#[inline]
pub fn fail_point(name: &'static str) {
    #[cfg(debug_assertions)]
    debug::pass_fail_point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Sleeps if the environment variable `PAUSE_POINT` is `name:MILLISECONDS`.
#[inline]
pub fn pause_point(name: &'static str) {
    #[cfg(debug_assertions)]
    debug::pause_at_point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod debug {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static CHOSEN_POINT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASS_COUNT: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pause_at_point(name: &'static str) {
        let setting = std::env::var("PAUSE_POINT").unwrap_or_default();
        if let Some((wanted, milliseconds)) = setting.split_once(':')
            && wanted == name
            && let Ok(milliseconds) = milliseconds.parse()
        {
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        }
    }

    pub(super) fn pass_fail_point(name: &'static str) {
        let wanted = CHOSEN_POINT.get_or_init(|| {
            let wanted = std::env::var("FAIL_POINT").ok()?;
            let (name, count) = wanted.split_once(':').unwrap_or((&wanted, "1"));
            Some((name.to_owned(), count.parse().ok()?))
        });
        if let Some((wanted, count)) = wanted
            && wanted == name
            && PASS_COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
