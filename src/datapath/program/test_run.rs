//! Runs a program on a packet of ours (BPF_PROG_TEST_RUN).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A program that can be run. Cheap to clone the file descriptor of; usable from any thread.
#[derive(Debug)]
pub struct TestRun(OwnedFd);

impl TestRun {
    pub(super) fn new(program: BorrowedFd<'_>) -> io::Result<Self> {
        program.try_clone_to_owned().map(Self)
    }

    /// Runs it on a frame. Returns its verdict as an unsigned number, and how many octets of `out` hold the packet as it was
    /// left; nothing is written where `out` is empty.
    ///
    /// # Errors
    /// The system call's: EINVAL for frames shorter than an IP header, ENOSPC where `out` is too short.
    pub fn run(&self, frame: &[u8], out: &mut [u8]) -> io::Result<(u32, usize)> {
        let mut opts = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            data_out: if out.is_empty() { std::ptr::null_mut() } else { out.as_mut_ptr().cast() },
            data_size_out: out.len() as u32,
            ..Default::default()
        };
        // SAFETY: both buffers live through the call and have the sizes given.
        let ret = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &raw mut opts) };
        if ret < 0 {
            return Err(io::Error::from_raw_os_error(-ret));
        }
        Ok((opts.retval, opts.data_size_out as usize))
    }
}
