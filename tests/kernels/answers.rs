//! Answers to clients on each kind of interface, with and without checksum offload.

use crate::common::packet::{Query, TYPE_A, TYPE_AAAA, TYPE_TXT};
use crate::lab::{Lab, RefusingServer, SERVER, SERVER6, run, until};
use crate::sockets::{Client, Reply, forms};
use crate::{is_at_least, lab};

const INGRESS: &str = "Ifname: veth0\nNetworkDirection: Ingress\n";

/// Checks names of odd and even length, answers of one and of several records, and negative answers.
fn check(what: &str, client: &Client) {
    let db6 = "fd00::5".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    let answered: [(&str, u16, Vec<Vec<u8>>); 6] = [
        ("apis.example.org", TYPE_A, vec![vec![172, 16, 171, 52]]),
        ("ApIs.eXample.ORG", TYPE_AAAA, vec![]),
        ("db.example.org", TYPE_A, vec![vec![10, 0, 0, 5], vec![10, 0, 0, 6]]),
        ("db.example.org", TYPE_AAAA, vec![db6]),
        ("any.apps.example.org", TYPE_A, vec![vec![10, 0, 0, 9]]),
        ("all.example.org", TYPE_TXT, vec![]),
    ];
    for (name, qtype, data) in answered {
        for (query, form) in forms(name, qtype).iter().zip(["plain", "EDNS", "cookie"]) {
            match client.ask(query) {
                Ok(Reply::Edns(got, authority)) if got == data && authority == usize::from(data.is_empty()) => {}
                other => panic!("{what}: {name} {qtype} {form}: {other:x?}"),
            }
        }
    }
    for (name, qtype) in [("apis.example.org", TYPE_TXT), ("nothing.example.org", TYPE_A)] {
        for query in forms(name, qtype) {
            assert!(matches!(client.ask(&query), Ok(Reply::Server)), "{what}: {name} {qtype} passes");
        }
    }
}

/// Asks both servers with each combination of checksum offload on both ends.
fn check_with_offloads(lab: &Lab, ns: &str, servers: [&str; 2], ends: [(&str, &str); 2]) {
    for offload in ["on", "off"] {
        for (ns, interface) in ends {
            lab.sh(ns, &format!("ethtool -K {interface} tx {offload} rx {offload} 2>&1"));
        }
        for server in servers {
            check(&format!("{server}, offload {offload}"), &Client::new(lab, ns, server));
        }
    }
}

#[test]
fn of_a_pod_on_a_veth() {
    let lab = lab(INGRESS);
    let _server = RefusingServer::new(&lab, "host", &[SERVER, SERVER6]);
    let _daemon = lab.daemon();
    check_with_offloads(&lab, "pod", [SERVER, SERVER6], [("pod", "eth0"), ("host", "veth0")]);
}

#[test]
fn of_a_pod_on_a_bridge_port() {
    let mut lab = lab(INGRESS);
    lab.bridge();
    let _server = RefusingServer::new(&lab, "far", &[SERVER, SERVER6]);
    let _daemon = lab.daemon();
    check_with_offloads(&lab, "pod", [SERVER, SERVER6], [("pod", "eth0"), ("host", "veth0")]);
}

/// A veth whose peer is in the same namespace: the reply is sent, not redirected to the peer.
#[test]
fn of_a_peer_in_the_same_namespace() {
    let lab = lab("Ifname: near0\nNetworkDirection: Ingress\n");
    lab.veth(("host", "near0"), ("host", "near1"));
    for port in ["near0", "near1"] {
        lab.ip("host", &format!("link add br-{port} type bridge"));
        lab.ip("host", &format!("link set br-{port} up"));
        lab.ip("host", &format!("link set {port} master br-{port}"));
    }
    // Path: pod, veth0, a bridge, near1, near0, another bridge with the server's address. The first bridge must not answer
    // ARP for it.
    lab.sh("host", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore");
    lab.ip("host", "addr flush dev veth0");
    lab.ip("host", "link set veth0 master br-near1");
    lab.ip("host", &format!("addr add {SERVER}/24 dev br-near0"));
    lab.ip("host", &format!("addr add {SERVER6}/64 dev br-near0 nodad"));
    let _server = RefusingServer::new(&lab, "host", &[SERVER, SERVER6]);
    let _daemon = lab.daemon();
    check_with_offloads(&lab, "pod", [SERVER, SERVER6], [("pod", "eth0"), ("host", "near0")]);
}

#[test]
fn of_a_process_of_the_host() {
    let lab = lab("Ifname: veth0\nNetworkDirection: Egress\n");
    let servers = ["192.0.2.53", "2001:db8::53"];
    for server in servers {
        lab.ip("pod", &format!("addr add {server} dev lo"));
    }
    lab.ip("host", "route add 192.0.2.53 via 10.77.0.2");
    lab.ip("host", "route add 2001:db8::53 via fd77::2");
    let _server = RefusingServer::new(&lab, "pod", &servers);
    let _daemon = lab.daemon();
    check_with_offloads(&lab, "host", servers, [("host", "veth0"), ("pod", "eth0")]);
}

/// The daemon on the VLAN interface, and on the one below it, where the kernel holds the tag outside of the frame.
#[test]
fn of_a_pod_in_a_vlan() {
    for ifname in ["veth0.7", "veth0"] {
        let lab = lab(&format!("Ifname: {ifname}\nNetworkDirection: Ingress\n"));
        for (ns, interface, last) in [("host", "veth0", 1), ("pod", "eth0", 2)] {
            lab.ip(ns, &format!("link add link {interface} name {interface}.7 type vlan id 7"));
            lab.ip(ns, &format!("link set {interface}.7 up"));
            lab.ip(ns, &format!("addr add 10.78.0.{last}/24 dev {interface}.7"));
            lab.ip(ns, &format!("addr add fd78::{last}/64 dev {interface}.7 nodad"));
        }
        let servers = ["10.78.0.1", "fd78::1"];
        let _server = RefusingServer::new(&lab, "host", &servers);
        let _daemon = lab.daemon();
        check_with_offloads(&lab, "pod", servers, [("pod", "eth0.7"), ("host", "veth0.7")]);
    }
}

/// The eth0 of a node that is a container may have the default route on a VLAN interface.
#[test]
fn below_the_vlan_of_a_default_route_frames_for_others_pass() {
    let lab = lab(INGRESS);
    lab.ip("pod", "neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0");
    lab.ip("host", "link add link veth0 name veth0.7 type vlan id 7");
    lab.ip("host", "link set veth0.7 up");
    lab.ip("host", "addr add 10.78.0.1/24 dev veth0.7");
    let _daemon = lab.daemon();
    let (to_another, apis) = (Client::new(&lab, "pod", "10.77.0.99"), Query::new("apis.example.org", TYPE_A));
    assert!(!to_another.is_silent(&apis), "a client's own port");
    lab.ip("host", "route add default via 10.78.0.2");
    until("it is an uplink", || if to_another.is_silent(&apis) { Ok(()) } else { Err("answered".into()) });
    assert!(!Client::new(&lab, "pod", SERVER).is_silent(&apis), "to its own address");
}

#[test]
fn of_a_pod_on_a_netkit() {
    let lab = lab("Ifname: '@pods'\nNetworkDirection: Ingress\n");
    let add = "link add netkit0 type netkit";
    if !is_at_least((6, 7)) {
        let output = lab.command("host", "ip").args(add.split(' ')).output().unwrap();
        assert!(!output.status.success(), "a kernel before 6.7 with netkit");
        return;
    }
    lab.ip("host", "link del veth0");
    // The kernel chooses the name of the other end.
    lab.ip("host", add);
    let all = run(lab.command("host", "ip").args(["-o", "link", "show", "type", "netkit"]));
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    let mut names = all.lines().filter_map(|l| l.split(": ").nth(1)?.split('@').next());
    let peer = names.find(|n| *n != "netkit0").unwrap_or_else(|| panic!("no peer: {all}"));
    lab.ip("host", &format!("link set {peer} netns {} name eth0", lab.ns("pod")));
    for (ns, interface, last) in [("host", "netkit0", 1), ("pod", "eth0", 2)] {
        lab.ip(ns, &format!("link set {interface} up"));
        lab.ip(ns, &format!("addr add 10.77.0.{last}/24 dev {interface}"));
        lab.ip(ns, &format!("addr add fd77::{last}/64 dev {interface} nodad"));
    }
    let _server = RefusingServer::new(&lab, "host", &[SERVER, SERVER6]);
    let _daemon = lab.daemon();
    for server in [SERVER, SERVER6] {
        check(server, &Client::new(&lab, "pod", server));
    }
}
