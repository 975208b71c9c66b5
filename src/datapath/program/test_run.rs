//! Runs a program on a packet of the caller (BPF_PROG_TEST_RUN).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::datapath::sys;

/// A program that can be run on packets, from any thread.
#[derive(Debug)]
pub struct TestRun(OwnedFd);

impl TestRun {
    pub(super) fn new(program: BorrowedFd<'_>) -> io::Result<Self> {
        program.try_clone_to_owned().map(Self)
    }

    /// Runs it on a frame. Returns its verdict (the TC action, as an unsigned number) and the length in bytes of the resulting
    /// packet, which is written to `out` unless `out` is empty.
    ///
    /// # Errors
    /// The error of the system call: EINVAL for frames shorter than an IP header, ENOSPC if `out` is too short.
    pub fn run(&self, frame: &[u8], out: &mut [u8]) -> io::Result<(u32, usize)> {
        sys::program_test_run(self.0.as_fd(), frame, out)
    }
}
