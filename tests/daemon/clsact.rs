//! The way to attach on kernels before tcx, through the library: the daemon never uses it on a kernel with tcx.

use std::os::fd::{AsFd as _, BorrowedFd};

use edns::datapath::attach::{AttachChange, AttachPlan, Attachments, Direction, Hook};
use edns::datapath::{Datapath, Options, Program, Table};
use edns::interfaces::{Header, Interfaces, Link, Uplink};
use edns::zone::name::Name;
use edns::zone::pass::PassNames;
use edns::zone::statics::{self, StaticEntry};
use nix::net::if_::if_nametoindex;

use crate::coexistence;
use crate::lab::{Lab, SERVER};

const HANDLE: u32 = 0xed05;
/// The second handle of this config.
const HANDLE2: u32 = HANDLE ^ 1 << 30;
const HOOK: Hook = Hook::Clsact { priority: 7, handle: HANDLE };

/// Runs in the network namespace of the host.
fn in_host(lab: &Lab, test: impl FnOnce(Link) + Send) {
    lab.run_in("host", || test(link("veth0")));
}

fn link(name: &str) -> Link {
    let ifindex = if_nametoindex(name).unwrap();
    Link {
        ifindex,
        name: name.to_owned(),
        header: Header::Ethernet,
        is_peer_elsewhere: true,
        uplink: Uplink::No,
        is_tap: false,
        controller: None,
        is_external: false,
    }
}

/// A program that answers apis.example.org with an address that ends in this octet.
fn datapath(last: u8) -> (Datapath, Table) {
    let options = Options { ext_btf: None, egress: false, max_records: 16, programs: Vec::new() };
    let (datapath, mut table) = Datapath::load(&options).unwrap();
    let entry = StaticEntry {
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
    attach_by(HOOK, datapath, link)
}

fn attach_by(hook: Hook, datapath: &Datapath, link: &Link) -> Attachments {
    let mut attachments = Attachments::new(hook, Direction::Ingress);
    let report = attachments.reconcile(AttachPlan::new(datapath, std::slice::from_ref(link), Direction::Ingress));
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    attachments
}

/// Adds a filter of no running daemon.
fn add_filter(program: BorrowedFd<'_>, link: &Link, direction: Direction, priority: u32, handle: u32) {
    let point = match direction {
        Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
        Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
    };
    assert_eq!(coexistence::add_filter(program, link.ifindex as i32, point, priority, handle), 0);
}

fn ask(lab: &Lab) -> String {
    lab.dig(&format!("@{SERVER} +short apis.example.org"))
}

fn filters(lab: &Lab) -> usize {
    lab.filters("host", "veth0")
}

#[test]
fn a_filter_is_removed_with_its_daemon_and_the_qdisc_stays() {
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
fn the_filter_of_a_killed_daemon_passes_everything_and_is_replaced() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (dead, table) = datapath(1);
        add_filter(dead.program(Program::EthernetToPeer).unwrap(), &link, Direction::Ingress, 7, HANDLE);
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
fn the_older_daemon_of_two_removes_no_filter_of_the_newer_one() {
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
fn a_filter_of_another_program_stays_unchanged() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (datapath, _table) = datapath(1);
        add_filter(coexistence::program(0).as_fd(), &link, Direction::Ingress, 7, 1);
        let attachments = attach(&datapath, &link);
        assert_eq!(filters(&lab), 2);
        assert_eq!(ask(&lab), "10.0.0.1");
        drop(attachments);
        assert_eq!(filters(&lab), 1);
        assert!(lab.sh("host", "tc filter show dev veth0 ingress").contains("handle 0x1 "));
    });
}

/// From now on socket(2) fails in this thread, as when too many files are open.
fn without_sockets() {
    let load = (libbpf_sys::BPF_LD | libbpf_sys::BPF_W | libbpf_sys::BPF_ABS) as u16;
    let equals = (libbpf_sys::BPF_JMP | libbpf_sys::BPF_JEQ | libbpf_sys::BPF_K) as u16;
    let end = (libbpf_sys::BPF_RET | libbpf_sys::BPF_K) as u16;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut steps = [
        step(load, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        step(equals, 1, libc::SYS_socket as u32),
        step(end, 0, libc::SECCOMP_RET_ERRNO | libc::EMFILE as u32),
        step(end, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the filter lives through the call.
    let ret = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(ret, 0, "seccomp: {}", std::io::Error::last_os_error());
}

#[test]
fn a_filter_that_cannot_be_queried_counts_as_attached() {
    let lab = Lab::new();
    in_host(&lab, |link| {
        let (datapath, _table) = datapath(1);
        let mut attachments = attach(&datapath, &link);
        let plan = AttachPlan::new(&datapath, std::slice::from_ref(&link), Direction::Ingress);
        let unasked = std::thread::scope(|scope| {
            let reconcile = || {
                without_sockets();
                attachments.reconcile(plan)
            };
            scope.spawn(reconcile).join().unwrap()
        });
        assert!(unasked.changes.is_empty() && unasked.errors.is_empty(), "{unasked:?}");
        assert_eq!(ask(&lab), "10.0.0.1");
        // A filter that was removed is reported and added again.
        lab.sh("host", "tc qdisc del dev veth0 clsact");
        let plan = AttachPlan::new(&datapath, std::slice::from_ref(&link), Direction::Ingress);
        let [gone, back] = [AttachChange::Detached, AttachChange::Attached].map(|change| change("veth0".into()));
        assert_eq!(attachments.reconcile(plan).changes, [gone, back]);
        assert_eq!(ask(&lab), "10.0.0.1");
    });
}

fn remove_stale_filters() -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (interfaces, _) = Interfaces::open(Vec::new()).await.unwrap();
        HOOK.remove_stale_filters(&interfaces).await.unwrap()
    })
}

#[test]
fn filters_of_killed_daemons_on_other_interfaces_are_removed_and_no_others() {
    let lab = Lab::new();
    lab.veth(("host", "veth1"), ("pod", "eth1"));
    in_host(&lab, |veth0| {
        let veth1 = link("veth1");
        let (killed, table) = datapath(1);
        let dead = killed.program(Program::Ethernet).unwrap();
        // Filters of this config as they are now, two as during a move, and filters with another priority, direction and
        // interface.
        add_filter(dead, &veth0, Direction::Ingress, 7, HANDLE);
        add_filter(dead, &veth0, Direction::Ingress, 7, HANDLE2);
        add_filter(dead, &veth0, Direction::Ingress, 8, HANDLE);
        add_filter(dead, &veth0, Direction::Egress, 7, HANDLE);
        add_filter(dead, &veth1, Direction::Ingress, 7, HANDLE);
        add_filter(dead, &veth1, Direction::Ingress, 7, HANDLE2);
        add_filter(dead, &veth1, Direction::Egress, 9, HANDLE2);
        // A filter of another config, and another program's.
        add_filter(dead, &veth1, Direction::Egress, 7, HANDLE + 1);
        add_filter(coexistence::program(0).as_fd(), &veth1, Direction::Egress, 8, HANDLE);
        drop((killed, table));
        // A daemon in another container, whose config has the same path.
        let (living, _table) = datapath(2);
        let attachments = attach_by(Hook::Clsact { priority: 9, handle: HANDLE }, &living, &veth1);

        let (next, _table) = datapath(3);
        let _attachments = attach(&next, &veth0);
        // Attaching has removed those of its own interface already.
        assert_eq!(filters(&lab), 2);
        assert_eq!(remove_stale_filters(), 2);
        assert_eq!(ask(&lab), "10.0.0.3");
        assert_eq!(lab.filters("host", "veth0"), 1);
        let filters = |direction| lab.sh("host", &format!("tc filter show dev veth1 {direction}"));
        let (ingress, egress) = (filters("ingress"), filters("egress"));
        assert!(ingress.matches(" handle 0x").count() == 1 && ingress.contains("pref 9 "), "{ingress}");
        assert!(egress.contains(" handle 0xed06 ") && egress.contains(" handle 0xed05 other"), "{egress}");
        assert_eq!(remove_stale_filters(), 0);
        drop((attachments, living));
    });
}
