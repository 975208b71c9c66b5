//! Attaches programs to interfaces by tcx. A program is detached when its link is closed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::lab::Netns;

#[derive(Debug, Clone, Copy)]
pub enum Hook {
    Ingress,
    Egress,
}

/// Attaches a program after those that are attached already.
pub fn attach(program: BorrowedFd<'_>, netns: &Netns, interface: &str, hook: Hook) -> OwnedFd {
    let ifindex = netns.ifindex(interface);
    netns.run(|| attach_to(program, ifindex, hook))
}

/// Attaches a program to an interface of the calling thread's namespace, behind those that are there already.
pub fn attach_to(program: BorrowedFd<'_>, ifindex: i32, hook: Hook) -> OwnedFd {
    let hook = match hook {
        Hook::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Hook::Egress => libbpf_sys::BPF_TCX_EGRESS,
    };
    // SAFETY: no options are passed.
    let link = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, hook, std::ptr::null()) };
    assert!(link >= 0, "tcx on interface {ifindex}: {}", io::Error::from_raw_os_error(-link));
    // SAFETY: nothing else owns the new file descriptor.
    unsafe { OwnedFd::from_raw_fd(link) }
}

/// Loads a program that sends every packet out of an interface. Attached after another program, it shows what that one passes
/// on, unchanged.
pub fn forwarder(ifindex: i32) -> OwnedFd {
    let insn = |code: u32, dst: u8, imm: i32| {
        let mut insn = libbpf_sys::bpf_insn { code: code as u8, imm, ..Default::default() };
        insn.set_dst_reg(dst);
        insn
    };
    let mov = libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K;
    let call = libbpf_sys::BPF_JMP | libbpf_sys::BPF_CALL;
    let exit = libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT;
    let redirect = libbpf_sys::BPF_FUNC_redirect as i32;
    let insns = [insn(mov, 1, ifindex), insn(mov, 2, 0), insn(call, 0, redirect), insn(exit, 0, 0)];
    // SAFETY: name, licence and instructions live through the call.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"forwarder".as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as u64,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "the forwarder: {}", io::Error::from_raw_os_error(-fd));
    // SAFETY: nothing else owns the new file descriptor.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
