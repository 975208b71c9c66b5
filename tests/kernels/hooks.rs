//! Where the program is attached, and beside whom.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use crate::common::packet::{Query, TYPE_A};
use crate::lab::{Lab, SERVER};
use crate::sockets::{Client, Reply, Server};
use crate::{is_at_least, lab};

pub fn has_tcx() -> bool {
    is_at_least((6, 6))
}

/// What stands on clsact.
pub fn filters(lab: &Lab) -> String {
    lab.sh("host", "tc filter show dev veth0 ingress; tc filter show dev veth0 egress")
}

pub fn filter_count(lab: &Lab) -> usize {
    filters(lab).matches(" handle 0x").count()
}

#[test]
fn tcx_where_the_kernel_has_it_else_a_filter_of_our_priority() {
    for direction in ["Ingress", "Egress"] {
        let lab = lab(&format!("Ifname: veth0\nNetworkDirection: {direction}\nTcPriority: 7\n"));
        let mut daemon = lab.daemon();
        if has_tcx() {
            assert_eq!(lab.tcx_programs("host", "veth0"), 1);
            assert!(!lab.sh("host", "tc qdisc show dev veth0").contains("clsact"));
        } else {
            let filters = lab.sh("host", &format!("tc filter show dev veth0 {}", direction.to_lowercase()));
            assert!(filters.contains("pref 7 bpf") && filters.contains("edns_"), "{filters}");
            assert_eq!(filter_count(&lab), 1);
        }
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.wait(), Some(0));
        assert_eq!(filter_count(&lab), 0);
    }
}

/// Another program on clsact, that ends the chain with this verdict, attached by the means of whoever it belongs to.
fn attach_other(lab: &Lab, verdict: i32, priority: u32) -> OwnedFd {
    let mov = (libbpf_sys::BPF_ALU64 | libbpf_sys::BPF_MOV | libbpf_sys::BPF_K) as u8;
    let exit = (libbpf_sys::BPF_JMP | libbpf_sys::BPF_EXIT) as u8;
    let insns = [
        libbpf_sys::bpf_insn { code: mov, imm: verdict, ..Default::default() },
        libbpf_sys::bpf_insn { code: exit, ..Default::default() },
    ];
    let attach = || {
        let netns = File::open(format!("/run/netns/{}", lab.ns("host"))).unwrap();
        setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
        // SAFETY: name, licence and instructions live through the call.
        let fd = unsafe {
            libbpf_sys::bpf_prog_load(
                libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
                c"other".as_ptr(),
                c"GPL".as_ptr(),
                insns.as_ptr(),
                insns.len() as u64,
                std::ptr::null_mut(),
            )
        };
        assert!(fd >= 0, "loading: {}", io::Error::from_raw_os_error(-fd));
        // SAFETY: ours since just now.
        let program = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut hook = libbpf_sys::bpf_tc_hook {
            sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
            ifindex: if_nametoindex("veth0").unwrap() as i32,
            attach_point: libbpf_sys::BPF_TC_INGRESS,
            ..Default::default()
        };
        let mut opts = libbpf_sys::bpf_tc_opts {
            sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
            prog_fd: program.as_raw_fd(),
            handle: 1,
            priority,
            ..Default::default()
        };
        // SAFETY: hook and opts live through the calls.
        unsafe {
            libbpf_sys::bpf_tc_hook_create(&raw mut hook);
            assert_eq!(libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut opts), 0, "attaching");
        }
        program
    };
    std::thread::scope(|scope| scope.spawn(attach).join().unwrap())
}

#[test]
fn beside_a_program_that_ends_the_chain() {
    const TC_ACT_OK: i32 = 0;
    const TC_ACT_SHOT: i32 = 2;
    let lab = lab("Ifname: veth0\nNetworkDirection: Ingress\nTcPriority: 3\n");
    let _server = Server::new(&lab, "host", &[SERVER]);
    let _other = attach_other(&lab, TC_ACT_OK, 4);
    let _daemon = lab.daemon();
    let client = Client::new(&lab, "pod", SERVER);
    let (hit, miss) = (Query::new("apis.example.org", TYPE_A), Query::new("nothing.example.org", TYPE_A));
    assert!(matches!(client.ask(&hit), Ok(Reply::Edns(..))), "it comes behind ours");
    assert!(matches!(client.ask(&miss), Ok(Reply::Server)));
    // One that drops all: it gets what we leave to the next, and nothing else.
    let arp = lab.sh("host", "ip neigh show dev veth0");
    assert!(arp.contains("10.77.0.2"), "{arp}");
    let _dropper = attach_other(&lab, TC_ACT_SHOT, 5);
    lab.sh("host", "tc filter del dev veth0 ingress pref 4");
    assert!(matches!(client.ask(&hit), Ok(Reply::Edns(..))), "it comes behind ours");
    assert!(client.is_silent(&miss), "it is asked of what we don't answer");
}
