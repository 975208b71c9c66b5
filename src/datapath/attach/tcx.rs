//! tcx links (Linux 6.6).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::Direction;

/// Programs that an interface can have in one direction (BPF_MPROG_MAX in the kernel).
const PROGRAMS_MAX: usize = 64;

/// A program at the front of an interface's chain, for as long as this lives: closing its file descriptor detaches it, also
/// where the kernel closes it since the process is gone.
pub(super) struct TcxLink(OwnedFd);

/// Whether the kernel knows tcx. Those that do miss interface 0, others the attach type.
pub(super) fn is_supported(program: BorrowedFd<'_>) -> bool {
    // SAFETY: no options are passed.
    let ret =
        unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TCX_INGRESS, std::ptr::null()) };
    ret == -libc::ENODEV
}

/// The programs of an interface, by number, the first one first.
pub(super) fn programs(ifindex: u32, direction: Direction) -> io::Result<Vec<u32>> {
    let mut ids = [0; PROGRAMS_MAX];
    let mut opts = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    opts.__bindgen_anon_1.prog_cnt = PROGRAMS_MAX as u32;
    // SAFETY: opts, and what it refers to, live through the call, and have the sizes given.
    let ret = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as i32, attach_type(direction), &raw mut opts) };
    if ret < 0 {
        return Err(io::Error::from_raw_os_error(-ret));
    }
    // SAFETY: filled by the call.
    let count = unsafe { opts.__bindgen_anon_1.prog_cnt } as usize;
    Ok(ids[..count.min(PROGRAMS_MAX)].to_vec())
}

const fn attach_type(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TCX_EGRESS,
    }
}

impl TcxLink {
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, direction: Direction) -> io::Result<Self> {
        let opts = libbpf_sys::bpf_link_create_opts {
            sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
            // Before all others: some end the chain.
            flags: libbpf_sys::BPF_F_BEFORE,
            ..Default::default()
        };
        let (program, ifindex, attach_type) = (program.as_raw_fd(), ifindex as i32, attach_type(direction));
        // SAFETY: opts lives through the call.
        let fd = unsafe { libbpf_sys::bpf_link_create(program, ifindex, attach_type, &raw const opts) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: a file descriptor that is ours since just now.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Runs another program in the place of this one, with no packet in between.
    pub(super) fn update(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: no options are passed.
        let ret = unsafe { libbpf_sys::bpf_link_update(self.0.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) };
        if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(()) }
    }

    /// Whether the interface is still there: the kernel takes it off the link when it goes.
    pub(super) fn is_alive(&self) -> bool {
        let mut info = libbpf_sys::bpf_link_info::default();
        let mut len = size_of_val(&info) as u32;
        // SAFETY: info lives through the call and has the size given.
        let ret = unsafe { libbpf_sys::bpf_link_get_info_by_fd(self.0.as_raw_fd(), &raw mut info, &raw mut len) };
        // SAFETY: for a tcx link the kernel fills this member.
        ret < 0 || unsafe { info.__bindgen_anon_1.tcx.ifindex } != 0
    }
}
