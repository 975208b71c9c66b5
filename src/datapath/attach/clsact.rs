//! Filters on the clsact qdisc, for kernels without tcx.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use super::Direction;

/// A filter that is taken away when this is dropped, unless another daemon has taken it over.
pub(super) struct Filter {
    ifindex: u32,
    direction: Direction,
    priority: u16,
    handle: u32,
    program_id: u32,
    /// Keeps the program's id from being another's.
    program: OwnedFd,
}

impl Filter {
    /// Makes the qdisc where there is none; it stays, since others may use it by then.
    pub(super) fn attach(
        program: BorrowedFd<'_>,
        ifindex: u32,
        direction: Direction,
        priority: u16,
        handle: u32,
    ) -> io::Result<Self> {
        let program_id = 0;
        let mut filter =
            Self { ifindex, direction, priority, handle, program_id, program: program.try_clone_to_owned()? };
        let mut hook = filter.hook();
        // SAFETY: the hook lives through the call.
        match unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) } {
            0 => {}
            e if e == -libc::EEXIST => {}
            e => return Err(io::Error::from_raw_os_error(-e)),
        }
        filter.update(program)?;
        Ok(filter)
    }

    /// Runs another program in the place of this one, with no packet in between.
    pub(super) fn update(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        let (hook, mut opts) = (self.hook(), self.opts());
        opts.prog_fd = program.as_raw_fd();
        opts.flags = libbpf_sys::BPF_TC_F_REPLACE;
        // SAFETY: hook and opts live through the call.
        let ret = unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts) };
        if ret < 0 {
            return Err(io::Error::from_raw_os_error(-ret));
        }
        self.program = program.try_clone_to_owned()?;
        self.program_id = opts.prog_id;
        Ok(())
    }

    /// Whether it still runs our program: neither taken away nor taken over.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        let (hook, mut opts) = (self.hook(), self.opts());
        // SAFETY: hook and opts live through the call.
        match -unsafe { libbpf_sys::bpf_tc_query(&raw const hook, &raw mut opts) } {
            0 => Ok(opts.prog_id == self.program_id),
            // No such filter; no qdisc, or none of its priority for our protocol; no interface.
            libc::ENOENT | libc::EINVAL | libc::ENODEV => Ok(false),
            e => Err(io::Error::from_raw_os_error(e)),
        }
    }

    fn detach(&self) -> io::Result<()> {
        if !self.is_there()? {
            return Ok(());
        }
        let (hook, opts) = (self.hook(), self.opts());
        // SAFETY: hook and opts live through the call.
        match -unsafe { libbpf_sys::bpf_tc_detach(&raw const hook, &raw const opts) } {
            0 | libc::ENODEV => Ok(()),
            e => Err(io::Error::from_raw_os_error(e)),
        }
    }

    fn hook(&self) -> libbpf_sys::bpf_tc_hook {
        libbpf_sys::bpf_tc_hook {
            sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
            ifindex: self.ifindex as i32,
            attach_point: match self.direction {
                Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
                Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
            },
            ..Default::default()
        }
    }

    fn opts(&self) -> libbpf_sys::bpf_tc_opts {
        libbpf_sys::bpf_tc_opts {
            sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
            handle: self.handle,
            priority: u32::from(self.priority),
            ..Default::default()
        }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Err(e) = self.detach() {
            log::warn!("interface {}: detaching: {e}", self.ifindex);
        }
    }
}
