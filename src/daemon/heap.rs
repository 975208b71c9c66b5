//! The heap. Work on the zone runs in different threads, and uses far more memory than it keeps. glibc would keep the freed
//! memory in the arena of that thread, and allocate as much again for the next one.

/// Limits malloc to two arenas (glibc). To be called before any thread starts.
#[cfg(target_env = "gnu")]
pub(super) fn limit_arenas() {
    // Two, because objects of the API are parsed while a thread works on the zone.
    // SAFETY: sets a parameter of malloc; no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}

/// Returns free memory to the kernel (glibc).
#[cfg(target_env = "gnu")]
pub(super) fn trim() {
    // SAFETY: releases only memory that is not allocated.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(super) const fn limit_arenas() {}

#[cfg(not(target_env = "gnu"))]
pub(super) const fn trim() {}
