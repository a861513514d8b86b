//! Memory in pages of 4 KiB only.

/// Turns transparent huge pages off for this process and those it starts (its PostgreSQL among them). The allocator asks for
/// them, and an idle process keeps a dozen MB in huge pages of which it uses little. An old kernel may refuse: it costs just that.
pub fn disable_huge_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}
