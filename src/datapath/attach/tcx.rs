//! tcx links (Linux 6.6).

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::Direction;
use crate::datapath::sys;

/// Programs that an interface can have in one direction (BPF_MPROG_MAX in the kernel).
const PROGRAMS_MAX: usize = 64;

/// A program at the front of an interface's chain. Closing the file descriptor detaches it, so the kernel detaches it also when
/// the process is killed.
pub(super) struct TcxLink(OwnedFd);

/// Whether the kernel has tcx: only then does attaching to interface 0 fail with ENODEV.
pub(super) fn is_supported(program: BorrowedFd<'_>) -> bool {
    let created = sys::link_create(program, 0, libbpf_sys::BPF_TCX_INGRESS, 0);
    created.is_err_and(|e| e.raw_os_error() == Some(libc::ENODEV))
}

/// The IDs of an interface's programs, in the order in which they run.
pub(super) fn programs(ifindex: u32, direction: Direction) -> io::Result<Vec<u32>> {
    sys::programs_on(ifindex, attach_type(direction), PROGRAMS_MAX)
}

const fn attach_type(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
    }
}

impl TcxLink {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        // Before all others, since some end the chain.
        sys::link_create(program, ifindex, attach_type(direction), libbpf_sys::BPF_F_BEFORE).map(Self)
    }

    /// Replaces the program atomically: every packet meets the old or the new one.
    pub(super) fn update(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        sys::link_update(self.0.as_fd(), program)
    }

    /// Whether the interface still exists: the kernel clears the link's interface when it deletes the interface.
    pub(super) fn is_alive(&self) -> bool {
        sys::tcx_link_ifindex(self.0.as_fd()).map_or(true, |ifindex| ifindex != 0)
    }
}
