//! Interfaces that come, go and change.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::packet::{Query, TYPE_A};
use crate::lab::{Daemon, Lab, RefusingServer, SERVER, until};
use crate::sockets::{Client, Reply};

fn attached(lab: &Lab) -> Vec<String> {
    let output = lab.edns(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let names = stats["attached_interfaces"].as_array().unwrap();
    let mut names: Vec<String> = names.iter().map(|n| n.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn until_attached(lab: &Lab, wanted: &[&str]) {
    until(&format!("attached to {wanted:?}"), || {
        let names = attached(lab);
        if names == wanted { Ok(()) } else { Err(format!("{names:?}")) }
    });
}

/// Creates this many veths of group 7, `v0` and so on.
fn add_many(lab: &Lab, count: usize) {
    let ns = lab.ns("pod");
    let add = |i| format!("link add v{i} group 7 up type veth peer name e{i} netns {ns}\n");
    lab.write("add", &(0..count).map(add).collect::<String>());
    lab.sh("host", "ip -batch add");
}

fn until_count_is_attached(lab: &Lab, count: usize) {
    until("all are attached", || match attached(lab).len() {
        n if n == count => Ok(()),
        n => Err(n.to_string()),
    });
}

#[test]
fn globs_and_pods_are_attached_when_they_appear_and_detached_when_they_go() {
    let mut lab = Lab::new();
    lab.add("pod2");
    lab.write("config.yaml", "Ifname: 'cali*, @pods'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    until_attached(&lab, &["veth0"]);
    lab.veth(("host", "cali1"), ("host", "peer1"));
    until_attached(&lab, &["cali1", "veth0"]);
    lab.veth(("host", "any"), ("pod2", "eth0"));
    until_attached(&lab, &["any", "cali1", "veth0"]);
    lab.ip("host", "addr add 10.79.0.1/24 dev any");
    lab.ip("pod2", "addr add 10.79.0.2/24 dev eth0");
    assert_eq!(lab.dig_in("pod2", "@10.79.0.1 +short apis.example.org"), "172.16.171.52");
    lab.ip("host", "link del any");
    lab.ip("host", "link set cali1 down");
    lab.ip("host", "link set cali1 name tap1");
    until_attached(&lab, &["veth0"]);
    assert!(daemon.log().contains("any: detached"), "{}", daemon.log());
}

/// The eth0 of a node that is itself a container is a veth, too.
#[test]
fn an_interface_with_a_default_route_is_not_a_pods() {
    let mut lab = Lab::new();
    lab.add("outside");
    lab.veth(("host", "eth0"), ("outside", "eth0"));
    lab.veth(("host", "eth1"), ("outside", "eth1"));
    lab.ip("host", "addr add 10.78.0.1/24 dev eth0");
    lab.ip("host", "addr add 10.79.0.1/24 dev eth1");
    lab.ip("host", "addr add fd79::1/64 dev eth1 nodad");
    lab.ip("host", "route add default via 10.78.0.2");
    lab.configure("Ifname: '@pods'\nNetworkDirection: Ingress\n");
    let _daemon = lab.daemon();
    until_attached(&lab, &["eth1", "veth0"]);
    // Default routes of either family and any metric, also several on one interface.
    lab.ip("host", "-6 route add default via fd79::2 metric 2000");
    until_attached(&lab, &["veth0"]);
    lab.ip("host", "-6 route del default");
    until_attached(&lab, &["eth1", "veth0"]);
    lab.ip("host", "route add default via 10.79.0.2 metric 50");
    until_attached(&lab, &["veth0"]);
    lab.ip("host", "route del default metric 50");
    lab.ip("host", "route replace default nexthop via 10.79.0.2 nexthop via 10.78.0.2");
    until_attached(&lab, &["veth0"]);
    // A route of another table doesn't count.
    lab.ip("host", "route add default via 10.77.0.2 table 7");
    // IPv4 routes are deleted with their interface without a netlink message.
    lab.ip("host", "link set eth0 down");
    lab.ip("host", "link set eth1 down");
    until_attached(&lab, &["eth0", "eth1", "veth0"]);
}

/// A lab in which `eth0` and `eth1` of the host both lead to `outside`, and a daemon for `@pods`.
fn two_ways_out() -> (Lab, Daemon) {
    let mut lab = Lab::new();
    lab.add("outside");
    for name in ["eth0", "eth1"] {
        lab.veth(("host", name), ("outside", name));
    }
    lab.configure("Ifname: '@pods'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    until_attached(&lab, &["eth0", "eth1", "veth0"]);
    (lab, daemon)
}

#[test]
fn a_port_of_an_interface_with_a_default_route_is_not_a_pods() {
    let (lab, _daemon) = two_ways_out();
    let route = |dev: &str| {
        lab.ip("host", &format!("addr add 10.78.0.1/24 dev {dev}"));
        lab.ip("host", &format!("link set {dev} up"));
        lab.ip("host", &format!("route add default via 10.78.0.2 dev {dev}"));
    };
    lab.ip("host", "link add link eth0 name mac0 type macvlan");
    route("mac0");
    until_attached(&lab, &["eth1", "veth0"]);
    lab.ip("host", "link del mac0");
    until_attached(&lab, &["eth0", "eth1", "veth0"]);
    lab.ip("host", "link add br0 type bridge");
    lab.ip("host", "link set eth0 master br0");
    route("br0");
    until_attached(&lab, &["eth1", "veth0"]);
    // Either port may be a pod's.
    lab.ip("host", "link set eth1 master br0");
    until_attached(&lab, &["eth0", "eth1", "veth0"]);
    // A bridge with a port that no pod can have: all others are pods'.
    lab.ip("host", "link set eth1 nomaster");
    lab.ip("host", "link add link eth1 name mac1 type macvlan");
    lab.ip("host", "link set mac1 master br0");
    until_attached(&lab, &["eth0", "veth0"]);
}

/// The kernel names no interface for such routes and sends no message when they change.
#[test]
fn routes_by_nexthop_objects_are_followed() {
    let (lab, _daemon) = two_ways_out();
    lab.sh("host", "echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode");
    for (name, net) in [("eth0", 78), ("eth1", 79)] {
        lab.ip("host", &format!("addr add 10.{net}.0.1/24 dev {name}"));
        lab.ip("host", &format!("addr add fd{net}::1/64 dev {name} nodad"));
    }
    lab.ip("host", "nexthop add id 1 via 10.78.0.2 dev eth0");
    lab.ip("host", "nexthop add id 2 via 10.79.0.2 dev eth1");
    lab.ip("host", "route add default nhid 1");
    until_attached(&lab, &["eth1", "veth0"]);
    lab.ip("host", "nexthop replace id 1 via 10.79.0.2 dev eth1");
    until_attached(&lab, &["eth0", "veth0"]);
    lab.ip("host", "nexthop replace id 1 via 10.78.0.2 dev eth0");
    until_attached(&lab, &["eth1", "veth0"]);
    lab.ip("host", "nexthop add id 3 group 1/2");
    lab.ip("host", "route replace default nhid 3");
    until_attached(&lab, &["veth0"]);
    lab.ip("host", "nexthop replace id 3 group 2");
    until_attached(&lab, &["eth0", "veth0"]);
    // The route is deleted with it.
    lab.ip("host", "nexthop del id 3");
    until_attached(&lab, &["eth0", "eth1", "veth0"]);
    lab.ip("host", "nexthop add id 6 via fd78::2 dev eth0");
    lab.ip("host", "-6 route add default nhid 6");
    until_attached(&lab, &["eth1", "veth0"]);
    lab.ip("host", "nexthop replace id 6 via fd79::2 dev eth1");
    until_attached(&lab, &["eth0", "veth0"]);
}

#[test]
fn a_default_route_by_nexthop_is_followed_without_ifname() {
    let lab = Lab::new();
    lab.sh("host", "echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode");
    lab.ip("host", "nexthop add id 1 via 10.77.0.2 dev veth0");
    lab.ip("host", "route add default nhid 1");
    lab.configure("NetworkDirection: Ingress\n");
    let _daemon = lab.daemon();
    until_attached(&lab, &["veth0"]);
}

#[test]
fn a_named_interface_may_go_and_come_back() {
    let lab = Lab::new();
    let _daemon = lab.daemon();
    lab.ip("host", "link del veth0");
    until_attached(&lab, &[]);
    lab.veth(("host", "veth0"), ("pod", "eth0"));
    until_attached(&lab, &["veth0"]);
}

#[test]
fn a_renamed_interface_keeps_its_program() {
    let lab = Lab::new();
    lab.configure("Ifname: 'veth*'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    lab.ip("host", "link set veth0 down");
    lab.ip("host", "link set veth0 name veth7");
    daemon.wait_for("veth0: renamed to veth7");
    until_attached(&lab, &["veth7"]);
    assert!(!daemon.log().contains("detached"), "{}", daemon.log());
    assert_eq!(lab.tcx_programs("host", "veth7"), 1);
}

/// The number of open files of the daemon, and its memory in KiB.
fn holds(daemon: &Daemon) -> (usize, usize) {
    let proc = format!("/proc/{}", daemon.pid());
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let memory = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")).unwrap();
    (std::fs::read_dir(format!("{proc}/fd")).unwrap().count(), memory.trim().parse().unwrap())
}

#[test]
fn a_thousand_pods_come_and_go_and_all_are_attached_and_detached() {
    const AT_ONCE: usize = 125;
    const ROUNDS: usize = 8;
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    let mut before = None;
    for _ in 0..ROUNDS {
        add_many(&lab, AT_ONCE);
        until_count_is_attached(&lab, AT_ONCE + 1);
        for i in [0, AT_ONCE / 2, AT_ONCE - 1] {
            assert_eq!(lab.tcx_programs("host", &format!("v{i}")), 1);
        }
        lab.sh("host", "ip link del group 7");
        until_attached(&lab, &["veth0"]);
        // After the first round the daemon has all the memory that it needs.
        let (files_before, memory_before) = *before.get_or_insert_with(|| holds(&daemon));
        // While it reads the interfaces it has a few more files open.
        let (_, memory) = until("no more open files than before", || match holds(&daemon) {
            (files, memory) if files <= files_before => Ok((files, memory)),
            (files, _) => Err(format!("{files}, {files_before} at first")),
        });
        assert!(memory < memory_before + 4096, "{memory} KiB, {memory_before} KiB at first");
    }
}

/// The kernel deletes them in one step; attaching, detaching and reading interfaces wait for it.
#[test]
fn while_many_interfaces_go_at_once_queries_and_commands_are_answered() {
    const MANY: usize = 400;
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let _server = RefusingServer::new(&lab, "host", &[SERVER]);
    let _daemon = lab.daemon();
    add_many(&lab, MANY);
    until_count_is_attached(&lab, MANY + 1);
    let client = Client::new(&lab, "pod", SERVER);
    let is_answered = || {
        let reply = client.ask(&Query::new("apis.example.org", TYPE_A));
        assert!(matches!(reply, Ok(Reply::Edns(..))), "{reply:?}");
    };
    std::thread::scope(|scope| {
        let go = scope.spawn(|| lab.sh("host", "ip link del group 7"));
        while !go.is_finished() {
            is_answered();
            attached(&lab);
            sleep(Duration::from_millis(50));
        }
    });
    until_count_is_attached(&lab, 1);
    is_answered();
    assert_eq!(lab.count("pass_daemon"), 0);
}

#[test]
fn lost_netlink_messages_lose_no_interface() {
    let lab = Lab::new();
    lab.configure("Ifname: 'v*'\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    daemon.signal(Signal::SIGSTOP);
    // More messages than the socket's buffer has room for. The last ones are about matching interfaces.
    lab.write("flood", &(0..500).map(|i| format!("link set lo mtu {}\n", 2000 + i)).collect::<String>());
    lab.sh("host", "ip -batch flood");
    lab.ip("host", "link del veth0");
    lab.veth(("host", "v1"), ("pod", "eth1"));
    assert!(lab.has_lost_messages());
    daemon.signal(Signal::SIGCONT);
    until_attached(&lab, &["v1"]);
    // Later messages are still received.
    lab.veth(("host", "v2"), ("pod", "eth2"));
    until_attached(&lab, &["v1", "v2"]);
}

#[test]
fn ingress_on_a_physical_interface_for_any_server_is_a_warning() {
    let lab = Lab::new();
    // Closest to a physical interface in a namespace.
    lab.ip("host", "link add link veth0 name mac0 type macvlan");
    lab.write("config.yaml", "Ifname: mac0\nNetworkDirection: Ingress\n");
    let daemon = lab.daemon();
    assert!(daemon.log().contains("name your DNS servers in DnsServers"), "{}", daemon.log());
}
