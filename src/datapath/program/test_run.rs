//! Runs a program on a packet of ours (BPF_PROG_TEST_RUN).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::datapath::sys;

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
        sys::program_test_run(self.0.as_fd(), frame, out)
    }
}
