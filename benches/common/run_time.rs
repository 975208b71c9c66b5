//! Run times of programs as the kernel counts them. Programs that are tail-called don't count: their time is part of the
//! program on the hook.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Makes the kernel count the run times of all programs while the file descriptor is open.
pub fn enable_stats() -> OwnedFd {
    // SAFETY: no memory is passed.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    assert!(fd >= 0, "bpf_enable_stats: {}", std::io::Error::from_raw_os_error(-fd));
    // SAFETY: nothing else owns the new file descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Nanoseconds and runs so far.
pub fn run_time(program: BorrowedFd<'_>) -> (u64, u64) {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info lives through the call and has the given size.
    let ret = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut len) };
    assert_eq!(ret, 0, "bpf_obj_get_info_by_fd");
    (info.run_time_ns, info.run_cnt)
}
