//! Transparent huge pages (THP) setting.

/// Disables transparent huge pages for this process and its children (such as its PostgreSQL). The
/// allocator requests them, and an idle process would hold a dozen MB of mostly unused huge pages.
/// Old kernels may refuse; the only effect is this memory.
pub fn disable_huge_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}
