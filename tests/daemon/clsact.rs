//! The way to attach on kernels before tcx, driven by the library: a kernel that has tcx never takes it by itself.

use std::os::fd::AsRawFd as _;

use edns::datapath::attach::{Attachments, Direction, Hook};
use edns::datapath::interfaces::{Header, Link};
use edns::datapath::{Datapath, Options, Program, Table};
use edns::zone::name::Name;
use edns::zone::pass::PassNames;
use edns::zone::statics::{self, Entry};
use nix::net::if_::if_nametoindex;

use crate::lab::{Lab, SERVER};

const HOOK: Hook = Hook::Clsact { priority: 7, handle: 0xed05 };

/// Runs in the network namespace of the host.
fn in_host(lab: &Lab, test: impl FnOnce(Link) + Send) {
    lab.run_in("host", || {
        let ifindex = if_nametoindex("veth0").unwrap();
        let name = "veth0".to_owned();
        test(Link { ifindex, name, header: Header::Ethernet, peer_elsewhere: true, outside: false });
    });
}

/// A program that answers apis.example.org with the given address.
fn datapath(last: u8) -> (Datapath, Table) {
    let options = Options { ext_btf: None, egress: false, max_records: 16, programs: Vec::new() };
    let (datapath, mut table) = Datapath::load(&options).unwrap();
    let entry = Entry {
        name: Name::parse("apis.example.org").unwrap(),
        wildcard: false,
        addresses: vec![[10, 0, 0, last].into()],
        ttl: None,
        authoritative: false,
    };
    for (name, node) in statics::nodes(&[entry], &PassNames::default(), 30) {
        table.put(&name, &node).unwrap();
    }
    datapath.settings().set_any_server(1);
    datapath.beat().unwrap();
    (datapath, table)
}

fn attach(datapath: &Datapath, link: &Link) -> Attachments {
    let mut attachments = Attachments::new(HOOK, Direction::Ingress);
    let outcome = attachments.reconcile(datapath, std::slice::from_ref(link));
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    attachments
}

fn ask(lab: &Lab) -> String {
    lab.dig(&format!("@{SERVER} +short apis.example.org"))
}

fn filters(lab: &Lab) -> usize {
    lab.filters("host", "veth0")
}

#[test]
fn a_filter_answers_and_goes_with_its_daemon_but_leaves_the_qdisc() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (datapath, _table) = datapath(1);
        let attachments = attach(&datapath, &link);
        assert_eq!(ask(&lab), "10.0.0.1");
        assert!(lab.sh("host", "tc filter show dev veth0 ingress").contains("pref 7 bpf"));
        drop(attachments);
        assert_eq!(filters(&lab), 0);
        assert!(ask(&lab).contains("no servers"));
        assert!(lab.sh("host", "tc qdisc show dev veth0").contains("clsact"));
    });
}

#[test]
fn what_a_killed_daemon_left_passes_everything_and_is_replaced() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (dead, table) = datapath(1);
        std::mem::forget(attach(&dead, &link));
        drop((dead, table));
        assert_eq!(filters(&lab), 1);
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert!(ask(&lab).contains("no servers"), "a program without a daemon");
        let (next, _table) = datapath(2);
        let _attachments = attach(&next, &link);
        assert_eq!(filters(&lab), 1);
        assert_eq!(ask(&lab), "10.0.0.2");
    });
}

#[test]
fn the_older_daemon_of_two_takes_nothing_away_when_it_ends() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (old, _old_table) = datapath(1);
        let old_attachments = attach(&old, &link);
        let (new, _new_table) = datapath(2);
        let _attachments = attach(&new, &link);
        assert_eq!(ask(&lab), "10.0.0.2");
        drop(old_attachments);
        assert_eq!(ask(&lab), "10.0.0.2");
    });
}

#[test]
fn a_filter_of_somebody_else_stays_as_it_is() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (datapath, _table) = datapath(1);
        let hook = libbpf_sys::bpf_tc_hook {
            sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
            ifindex: link.ifindex as i32,
            attach_point: libbpf_sys::BPF_TC_INGRESS,
            ..Default::default()
        };
        let mut hook_to_make = hook;
        let mut theirs = libbpf_sys::bpf_tc_opts {
            sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
            prog_fd: datapath.program(Program::Ip).expect("a program").as_raw_fd(),
            handle: 1,
            priority: 7,
            ..Default::default()
        };
        // SAFETY: hook and opts live through the calls.
        unsafe {
            assert_eq!(libbpf_sys::bpf_tc_hook_create(&raw mut hook_to_make), 0);
            assert_eq!(libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut theirs), 0);
        }
        let attachments = attach(&datapath, &link);
        assert_eq!(filters(&lab), 2);
        assert_eq!(ask(&lab), "10.0.0.1");
        drop(attachments);
        assert_eq!(filters(&lab), 1);
        assert!(lab.sh("host", "tc filter show dev veth0 ingress").contains("handle 0x1 "));
    });
}
