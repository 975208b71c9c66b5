//! Other programs on the interface, which may end the chain as Cilium's do.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::net::if_::if_nametoindex;

use crate::common::packet::{Query, TYPE_A};
use crate::lab::{Lab, RefusingServer, SERVER};
use crate::sockets::{Client, Reply};

pub const TC_ACT_OK: i32 = 0;
pub const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

/// Loads another program that ends the chain with this verdict.
pub fn program(verdict: i32) -> OwnedFd {
    let code = |code: u32| code as u8;
    let mov = code(libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K);
    let exit = code(libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT);
    let insns = [
        libbpf_sys::bpf_insn { code: mov, imm: verdict, ..Default::default() },
        libbpf_sys::bpf_insn { code: exit, ..Default::default() },
    ];
    // SAFETY: name, licence and instructions live through the call.
    owned(unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"other".as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as u64,
            std::ptr::null_mut(),
        )
    })
}

/// Attaches such a program to ingress, after those that are attached: by a tcx link, or without tcx by a filter of this
/// priority, which exists as long as the interface.
fn other(lab: &Lab, verdict: i32, priority: u32) -> OwnedFd {
    lab.run_in("host", || {
        let ifindex = if_nametoindex("veth0").unwrap() as i32;
        let program = program(verdict);
        // SAFETY: no options are passed.
        let link = unsafe {
            libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_TCX_INGRESS, std::ptr::null())
        };
        if link != -libc::EINVAL {
            return owned(link);
        }
        let attached = add_filter(program.as_fd(), ifindex, libbpf_sys::BPF_TC_INGRESS, priority, 1);
        assert_eq!(attached, 0, "attaching");
        program
    })
}

/// Attaches such a program before all others by a tcx link; None on a kernel without tcx.
pub fn in_front_on_tcx(ifindex: i32, verdict: i32) -> Option<OwnedFd> {
    let program = program(verdict);
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    // SAFETY: opts lives through the call.
    let link = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_TCX_INGRESS, &raw const opts)
    };
    (link != -libc::EINVAL).then(|| owned(link))
}

/// Adds a filter on clsact before those of its priority; returns libbpf's error, or 0.
pub fn add_filter(program: BorrowedFd<'_>, ifindex: i32, point: u32, priority: u32, handle: u32) -> i32 {
    let mut hook = hook(ifindex, point);
    let mut opts = libbpf_sys::bpf_tc_opts {
        sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
        prog_fd: program.as_raw_fd(),
        handle,
        priority,
        ..Default::default()
    };
    // SAFETY: hook and opts live through the calls.
    unsafe {
        libbpf_sys::bpf_tc_hook_create(&raw mut hook);
        libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts)
    }
}

/// Removes a filter; returns libbpf's error, or 0.
pub fn remove_filter(ifindex: i32, point: u32, priority: u32, handle: u32) -> i32 {
    let hook = hook(ifindex, point);
    let opts = libbpf_sys::bpf_tc_opts {
        sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
        handle,
        priority,
        ..Default::default()
    };
    // SAFETY: hook and opts live through the call.
    unsafe { libbpf_sys::bpf_tc_detach(&raw const hook, &raw const opts) }
}

/// Removes the qdisc with all its filters; returns libbpf's error, or 0.
pub fn remove_qdisc(ifindex: i32) -> i32 {
    let mut hook = hook(ifindex, libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS);
    // SAFETY: the hook lives through the call.
    unsafe { libbpf_sys::bpf_tc_hook_destroy(&raw mut hook) }
}

fn hook(ifindex: i32, attach_point: u32) -> libbpf_sys::bpf_tc_hook {
    let sz = size_of::<libbpf_sys::bpf_tc_hook>() as _;
    libbpf_sys::bpf_tc_hook { sz, ifindex, attach_point, ..Default::default() }
}

fn owned(fd: i32) -> OwnedFd {
    assert!(fd >= 0, "{}", io::Error::from_raw_os_error(-fd));
    // SAFETY: of a call that just made it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn our_program_is_first_and_passes_unanswered_packets_to_the_next() {
    let lab = Lab::new();
    lab.configure("Ifname: veth0\nNetworkDirection: Ingress\nTcPriority: 3\n");
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let client = Client::new(&lab, "pod", SERVER);
    let (hit, miss) = (Query::new("apis.example.org", TYPE_A), Query::new("nothing.example.org", TYPE_A));
    // Attached before eDNS' program; a program after it sees no packet.
    let accepts = other(&lab, TC_ACT_OK, 5);
    let _daemon = lab.daemon();
    assert!(matches!(client.ask(&hit), Ok(Reply::Edns(..))));
    assert!(matches!(client.ask(&miss), Ok(Reply::Server)));
    drop(accepts);
    // Attached later; gets the packets that eDNS doesn't answer.
    let _drops = other(&lab, TC_ACT_SHOT, 4);
    assert!(matches!(client.ask(&hit), Ok(Reply::Edns(..))));
    assert!(client.is_silent(&miss));
}
