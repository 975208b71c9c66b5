//! The heap. Work on the zone goes from thread to thread, and much of it takes far more memory than what it leaves: glibc would keep
//! that for the thread, and take as much again for the next.

#[cfg(target_env = "gnu")]
pub(super) fn limit_arenas() {
    // Not one: the API's objects are parsed while the zone works.
    // SAFETY: it sets a number of malloc's, before any other thread is there.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Gives back to the kernel what nothing lies in.
#[cfg(target_env = "gnu")]
pub(super) fn trim() {
    // SAFETY: it touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(super) const fn limit_arenas() {}

#[cfg(not(target_env = "gnu"))]
pub(super) const fn trim() {}
