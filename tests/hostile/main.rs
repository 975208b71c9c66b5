//! Packets that eDNS must not answer: each has to pass unchanged, with the verdict "next", and counted with the right
//! outcome. The packets that it must answer show that the checks can fail.
//!
//! Every row runs as a test run, if the kernel accepts it as one, and over a veth pair through each program for Ethernet.
//! There a second program after eDNS' forwards what it sees to a third namespace, where it is compared.

#[path = "../common/mod.rs"]
mod common;
mod rows;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use common::attach::{Hook, attach, forwarder};
use common::lab::{Netns, veth};
use common::model::{Model, absence, addresses, agrees, node};
use common::packet::{ETHERNET, IPV4, IPV6, Opt, Packet, Query, TYPE_A, TYPE_AAAA, hex, wire};
use common::raw::{RawSocket, Received};
use common::{BOTH_ZONES, TC_ACT_REDIRECT, TC_ACT_UNSPEC, decode, tun};
use edns::datapath::counters::{FAMILIES, Queries};
use edns::datapath::{Datapath, Gate, HashKey, OUTCOMES, Program, Table, probe};
use edns::zone::name::Name;
use edns::zone::node::{AnswerKind, Node, ZoneId};
use rows::{Expect, Row, SIZED, a, answered, both, longest, passing, row, sized, web};

const SOON: Duration = Duration::from_secs(10);
/// Larger than every frame of this test.
const MTU: u32 = 9000;

fn zone(table: &mut Table) -> Model {
    let mut model = Model::default();
    let both = |v4: &str, v6: &str| {
        node(vec![
            (TYPE_A, addresses(&[v4.parse::<std::net::Ipv4Addr>().expect("an address")], 30)),
            (TYPE_AAAA, addresses(&[v6.parse::<std::net::Ipv6Addr>().expect("an address")], 30)),
        ])
    };
    model.put(table, "web.example.org", both("10.0.0.1", "fd00::1"));
    model.put(table, &longest(), both("10.0.0.2", "fd00::2"));
    model.put(table, &vec!["a"; 127].join("."), both("10.0.0.3", "fd00::3"));
    model.put(
        table,
        "v4.example.org",
        node(vec![
            (TYPE_A, addresses(&[[10, 0, 0, 4]], 30)),
            (TYPE_AAAA, absence(AnswerKind::Nodata, &common::model::OWNER)),
        ]),
    );
    let many: Vec<[u8; 4]> = (0..60).map(|i| [10, 1, 0, i]).collect();
    model.put(table, "many.example.org", node(vec![(TYPE_A, addresses(&many, 30))]));
    let some: Vec<[u8; 4]> = (0..40).map(|i| [10, 2, 0, i]).collect();
    model.put(table, "some.example.org", node(vec![(TYPE_A, addresses(&some, 30))]));
    for (records, name_len) in SIZED {
        let ips: Vec<[u8; 4]> = (0..records).map(|i| [10, 3, 0, i]).collect();
        model.put(table, &sized(name_len), node(vec![(TYPE_A, addresses(&ips, 30))]));
    }
    model.put(table, "left.example.org", Node::pass(ZoneId::Static));
    let nxdomain = Arc::new(node(vec![(0, absence(AnswerKind::Nxdomain, &wire("zone.example.org")))]));
    model.put(
        table,
        "zone.example.org",
        Node { child: Some(Arc::clone(&nxdomain)), deep: Some(nxdomain), ..both("10.0.0.5", "fd00::5") },
    );
    let wildcard = Arc::new(node(vec![(TYPE_A, addresses(&[[10, 0, 0, 9]], 60))]));
    model.put(
        table,
        "apps.example.org",
        Node { child: Some(Arc::clone(&wildcard)), deep: Some(wildcard), ..Node::pass(ZoneId::Static) },
    );
    model
}

/// The counters that differ.
fn moved(before: &Queries, after: &Queries) -> Vec<(&'static str, &'static str, u64)> {
    let mut moved = Vec::new();
    for (outcome, (before, after)) in OUTCOMES.iter().zip(before.iter().zip(after)) {
        for (family, (before, after)) in FAMILIES.iter().zip(before.iter().zip(after)) {
            if before != after {
                moved.push((outcome.name, *family, after - before));
            }
        }
    }
    moved
}

/// Runs `f`, which sends the packet of the row once, and checks its outcome in the counters.
fn counted<T>(datapath: &Datapath, row: &Row, f: impl FnOnce() -> T) -> T {
    datapath.beat().expect("heartbeat");
    let before = datapath.queries().expect("counters");
    let result = f();
    let after = datapath.queries().expect("counters");
    let wanted = match row.expect {
        Expect::Pass(None) => vec![],
        Expect::Pass(Some(outcome)) | Expect::Reply(outcome) => vec![(outcome, row.family(), 1)],
    };
    assert_eq!(moved(&before, &after), wanted, "{}\n{}", row.what, hex(&row.frame));
    result
}

/// Compares the reply's frame with the query's; the VLAN tag must be the same.
fn check_reply(row: &Row, reply: &[u8], model: &Model) {
    let tag = if matches!(row.frame[12..14], [0x81, 0] | [0x88, 0xa8]) { 4 } else { 0 };
    assert_eq!(row.frame[12..12 + tag], reply[12..12 + tag], "{}: the VLAN tag", row.what);
    let untagged = |frame: &[u8]| [&frame[..12], &frame[12 + tag..]].concat();
    check_packets(&row.what, &untagged(&row.frame), &untagged(reply), ETHERNET, model);
}

fn check_packets(what: &str, query: &[u8], reply: &[u8], l2: usize, model: &Model) {
    let check = || {
        let read = decode::reply(query, reply, l2)?;
        let datagram = decode::Datagram::read(query, l2)?;
        let asked = decode::Asked::read(&datagram)?;
        let answer = model.expected(&asked).ok_or("answered, but it is not in the zone or too large")?;
        agrees(&read, &asked, answer)
    };
    check().unwrap_or_else(|e| panic!("{what}: {e}\n{}\n{}", hex(query), hex(reply)));
}

/// Runs a row as a test run. False if the kernel accepts no such frame.
fn test_run(datapath: &Datapath, row: &Row, model: &Model) -> bool {
    let takes = match row.frame[12..14] {
        [0x86, 0xdd] => row.frame.len() >= ETHERNET + IPV6,
        [0x81, 0] | [0x88, 0xa8] => false,
        _ => row.frame.len() >= ETHERNET + IPV4,
    };
    if !takes {
        return false;
    }
    let mut out = vec![0; 4096];
    let program = datapath.test_run(Program::Ethernet).expect("test run");
    let run = || program.run(&row.frame, &mut out).unwrap_or_else(|e| panic!("{}: {e}", row.what));
    let (verdict, len) = counted(datapath, row, run);
    match row.expect {
        Expect::Pass(_) => {
            assert_eq!(verdict, TC_ACT_UNSPEC, "{}", row.what);
            assert_eq!(hex(&out[..len]), hex(&row.frame), "{}", row.what);
        }
        Expect::Reply(_) => {
            assert_eq!(verdict, TC_ACT_REDIRECT, "{}\n{}", row.what, hex(&row.frame));
            check_reply(row, &out[..len], model);
        }
    }
    true
}

/// Pod and node joined by a veth pair, with the program on the node's end. Packets that pass reach `server`.
struct Wire {
    pod: RawSocket,
    server: RawSocket,
    node: Netns,
    _links: [OwnedFd; 2],
    _others: [Netns; 2],
}

impl Wire {
    fn new(program: std::os::fd::BorrowedFd<'_>) -> Self {
        let (pod, node, server) = (Netns::quiet("pod"), Netns::quiet("node"), Netns::quiet("server"));
        veth((&node, "p"), (&pod, "eth0"));
        veth((&node, "s"), (&server, "eth0"));
        for (netns, interface) in [(&node, "p"), (&node, "s"), (&pod, "eth0"), (&server, "eth0")] {
            netns.ip(&format!("link set {interface} mtu {MTU}"));
        }
        let ours = attach(program, &node, "p", Hook::Ingress);
        let next = forwarder(node.ifindex("s"));
        let next = attach(std::os::fd::AsFd::as_fd(&next), &node, "p", Hook::Ingress);
        let (pod_socket, server_socket) = (RawSocket::open(&pod, "eth0"), RawSocket::open(&server, "eth0"));
        Self { pod: pod_socket, server: server_socket, node, _links: [ours, next], _others: [pod, server] }
    }

    fn send(&self, datapath: &Datapath, row: &Row, model: &Model) {
        // Frames that the kernel sends on its own have other addresses.
        let passed = |r: &Received| r.octets.len() >= ETHERNET && r.octets[6..12] == row.frame[6..12];
        let replied = |r: &Received| r.octets.len() >= ETHERNET && r.octets[0..6] == row.frame[6..12];
        counted(datapath, row, || {
            self.pod.send(&row.frame).unwrap_or_else(|e| panic!("{}: {e}", row.what));
            match row.expect {
                Expect::Pass(_) => {
                    let got = self.server.receive(SOON, passed).unwrap_or_else(|| panic!("{}: lost", row.what));
                    assert_eq!(hex(&got.octets), hex(&row.frame), "{}", row.what);
                }
                Expect::Reply(_) => {
                    let got = self.pod.receive(SOON, replied).unwrap_or_else(|| panic!("{}: no reply", row.what));
                    check_reply(row, &got.octets, model);
                }
            }
        });
        let none = Duration::ZERO;
        assert!(self.pod.receive(none, replied).is_none(), "{}: two replies", row.what);
        assert!(self.server.receive(none, passed).is_none(), "{}: it passed as well", row.what);
    }
}

#[test]
fn as_test_runs() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let rows: Vec<Row> = passing().into_iter().chain(answered()).collect();
    let ran = rows.iter().filter(|row| test_run(&datapath, row, &model)).count();
    // All except frames without a whole IP header and those with VLAN tags.
    assert!(ran > rows.len() * 4 / 5, "{ran} of {}", rows.len());
}

#[test]
fn over_a_veth_pair() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    for program in [
        datapath.program(Program::Ethernet).expect("a program"),
        datapath.program(Program::EthernetToPeer).expect("a program"),
    ] {
        let wire = Wire::new(program);
        for row in passing().into_iter().chain(answered()) {
            wire.send(&datapath, &row, &model);
        }
    }
}

/// A lookup starts at the depth of the longest name and tries a limited number of ancestors. The reverse names of IPv6
/// addresses have 34 labels and must not affect other names.
#[test]
fn long_names_do_not_exist_with_and_without_reverse_names_of_ipv6() {
    let (datapath, mut table) = common::load(false, 64);
    let absent = Arc::new(node(vec![(0, absence(AnswerKind::Nxdomain, &wire("cluster.local")))]));
    let said =
        || Node { child: Some(Arc::clone(&absent)), deep: Some(Arc::clone(&absent)), ..Node::pass(ZoneId::Static) };
    let mut model = Model::default();
    for name in ["cluster.local", "svc.cluster.local", "10.in-addr.arpa", "ip6.arpa"] {
        model.put(&mut table, name, said());
    }
    model.put(
        &mut table,
        "_http._tcp.web.default.svc.cluster.local",
        node(vec![(TYPE_A, addresses(&[[10, 0, 0, 1]], 30))]),
    );
    let address = format!("{}d.f.ip6.arpa", "0.".repeat(30));
    let below = |zone: &str, labels: usize| {
        let own = zone.split('.').count();
        format!("{}{zone}", "a.".repeat(labels - own))
    };
    let check = |model: &Model, what: &str| {
        for (name, expect) in [
            (below("cluster.local", 3), Expect::Reply("nxdomain")),
            (below("cluster.local", 23), Expect::Reply("nxdomain")),
            (below("svc.cluster.local", 100), Expect::Reply("nxdomain")),
            (below("xarpa.cluster.local", 60), Expect::Reply("nxdomain")),
            (below("10.in-addr.arpa", 4), Expect::Reply("nxdomain")),
            (below("ip6.arpa", 16), Expect::Reply("nxdomain")),
            (below("example.org", 23), Expect::Pass(Some("pass_not_found"))),
        ] {
            for packet in both(&a(&name)) {
                assert!(test_run(&datapath, &row(format!("{name}, {what}"), &packet, expect), model));
            }
        }
    };
    check(&model, "no reverse name of IPv6");
    model.put(&mut table, &address, node(vec![(12, addresses(&[[10, 0, 0, 1]], 30))]));
    check(&model, "a reverse name of IPv6");
    // Names below the reverse name of an IPv6 address are looked up from their own depth.
    let deep = row("below it", &Packet::v4(&a(&format!("x.y.{address}"))), Expect::Pass(Some("pass_not_found")));
    assert!(test_run(&datapath, &deep, &model));
    assert!(table.rekey(HashKey::random()));
    check(&model, "after a change of the key");
    table.remove(&Name::parse(&address).expect("a name"));
    check(&model, "the reverse name is removed");
}

/// Packets that pass because of a setting, not because of their content.
#[test]
fn settings_make_packets_pass() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let wire = Wire::new(datapath.program(Program::Ethernet).expect("a program"));
    let settings = datapath.settings();
    let check = |why: &str, query: &Query, expect: fn() -> Expect| {
        for packet in both(query) {
            let row = row(why, &packet, expect());
            assert!(test_run(&datapath, &row, &model));
            wire.send(&datapath, &row, &model);
        }
    };
    let answered = || Expect::Reply("answered");
    let nodata = Query::new("v4.example.org", TYPE_AAAA);
    let (nxdomain, wildcard) = (a("no.zone.example.org"), a("x.apps.example.org"));
    check("default settings", &web(), answered);

    settings.set_paused(true);
    check("paused", &web(), || Expect::Pass(Some("pass_paused")));
    check("paused", &nodata, || Expect::Pass(Some("pass_paused")));
    settings.set_paused(false);

    let servers = [Packet::v4(&web()).dst, Packet::v6(&web()).dst];
    settings.set_any_server(BOTH_ZONES & !(1 << ZoneId::Static as u8));
    check("another server", &web(), || Expect::Pass(Some("pass_server")));
    for server in servers {
        datapath.set_server(server, 1 << ZoneId::Cluster as u8).expect("a server");
    }
    check("a server of the other zone", &web(), || Expect::Pass(Some("pass_server")));
    for server in servers {
        datapath.set_server(server, BOTH_ZONES).expect("a server");
    }
    check("a server of DnsServers", &web(), answered);
    for server in servers {
        datapath.set_server(server, 0).expect("a server");
    }
    check("a server that was removed", &wildcard, || Expect::Pass(Some("pass_server")));
    settings.set_any_server(BOTH_ZONES);

    settings.set_positive_gate(ZoneId::Cluster, Gate::NotSynced);
    check("the other zone is not synced", &web(), answered);
    settings.set_positive_gate(ZoneId::Static, Gate::NotSynced);
    for query in [&web(), &nodata, &nxdomain, &wildcard] {
        check("not synced", query, || Expect::Pass(Some("pass_not_synced")));
    }
    settings.set_positive_gate(ZoneId::Static, Gate::Open);
    settings.set_negative_gate(ZoneId::Static, Gate::Stale);
    for query in [&nodata, &nxdomain, &wildcard] {
        check("stale", query, || Expect::Pass(Some("pass_stale")));
    }
    check("stale, but the name exists", &web(), answered);
    settings.set_negative_gate(ZoneId::Static, Gate::Incomplete);
    for query in [&nodata, &nxdomain, &wildcard] {
        check("incomplete", query, || Expect::Pass(Some("pass_incomplete")));
    }
    settings.set_negative_gate(ZoneId::Static, Gate::Open);
    check("all gates open", &nxdomain, || Expect::Reply("nxdomain"));
}

/// Each gate suspends the negative answers of the nodes that name it, and no others.
#[test]
fn negative_answers_have_gates_of_their_own() {
    let (datapath, mut table) = common::load(false, 64);
    let mut model = Model::default();
    for (name, gate) in [("a.test", 7), ("b.test", 255)] {
        let negative = |kind| Some(Arc::new(Node { gate, ..node(vec![(0, absence(kind, &wire(name)))]) }));
        let types = vec![(TYPE_A, addresses(&[[10, 0, 0, 1]], 30))];
        let (fallback, child) = (negative(AnswerKind::Nodata), negative(AnswerKind::Nxdomain));
        model.put(&mut table, name, Node { fallback, child, ..node(types) });
    }
    let check = |closed: Option<&str>| {
        for name in ["a.test", "b.test"] {
            let below = a(&format!("x.{name}"));
            for (query, reply) in
                [(&a(name), "answered"), (&Query::new(name, TYPE_AAAA), "nodata"), (&below, "nxdomain")]
            {
                for packet in both(query) {
                    let is_suspended = closed == Some(name) && reply != "answered";
                    let expect = if is_suspended { Expect::Pass(Some("pass_stale")) } else { Expect::Reply(reply) };
                    assert!(test_run(
                        &datapath,
                        &row(format!("{name}, {reply}, closed: {closed:?}"), &packet, expect),
                        &model
                    ));
                }
            }
        }
    };
    check(None);
    for (name, gate) in [("a.test", 7), ("b.test", 255)] {
        datapath.settings().set_gate(gate, Gate::Stale);
        check(Some(name));
        datapath.settings().set_gate(gate, Gate::Open);
    }
    check(None);
}

/// An answer that is larger than the interface's MTU is not sent.
#[test]
fn answers_larger_than_the_mtu_pass() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let query = a("many.example.org").edns(&Opt::new(1232));
    for packet in both(&query) {
        let wire = Wire::new(datapath.program(Program::Ethernet).expect("a program"));
        let len = packet.ip().len() + 60 * 16;
        for (mtu, expect) in [(len, Expect::Reply("answered")), (len - 1, Expect::Pass(Some("pass_too_large")))] {
            // With an MTU below 1280 an interface has no IPv6 addresses, but the program still sees received IPv6 packets.
            wire.node.ip(&format!("link set p mtu {mtu}"));
            wire.send(&datapath, &row(format!("an MTU of {mtu}"), &packet, expect), &model);
        }
    }
}

#[test]
fn without_a_heartbeat() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let program = datapath.test_run(Program::Ethernet).expect("test run");
    let mut out = vec![0; 2048];
    let frame = Packet::v4(&web()).frame();
    assert_eq!(program.run(&frame, &mut out).expect("test run").0, TC_ACT_REDIRECT);
    std::thread::sleep(Duration::from_millis(3000));
    let before = datapath.queries().expect("counters");
    let (verdict, len) = program.run(&frame, &mut out).expect("test run");
    assert_eq!((verdict, &out[..len]), (TC_ACT_UNSPEC, &frame[..]));
    assert_eq!(moved(&before, &datapath.queries().expect("counters")), [("pass_daemon", "ipv4", 1)]);
    let row = row("the heart beats again", &Packet::v4(&web()), Expect::Reply("answered"));
    assert!(test_run(&datapath, &row, &model));
}

/// An interface without a link-layer header.
#[test]
fn over_a_tun() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    // A program for Ethernet is loaded before, others afterwards.
    let wildcard = Packet::v4(&a("x.apps.example.org"));
    let over_ethernet = row("over Ethernet", &wildcard, Expect::Reply("answered"));
    assert!(test_run(&datapath, &over_ethernet, &model));
    let node = Netns::quiet("node");
    let tun = node.run(|| tun::open("tun0", libc::IFF_TUN));
    node.ip("link set tun0 up");
    let _link = attach(datapath.program(Program::Ip).expect("a program"), &node, "tun0", Hook::Ingress);
    let queries = [
        web(),
        Query::new("web.example.org", TYPE_AAAA).edns(&Opt::new(1232)),
        a("some.example.org").edns(&Opt::new(1232)),
        a("no.zone.example.org"),
    ];
    for packet in queries.iter().flat_map(both) {
        let query = packet.ip();
        nix::unistd::write(&tun, &query).expect("tun");
        check_packets("over a tun", &query, &tun::read(&tun, SOON).expect("a reply"), 0, &model);
    }
    // Packets that pass get no reply: the next reply is to the next query.
    let before = datapath.queries().expect("counters");
    let query = Packet::v4(&web()).ip();
    nix::unistd::write(&tun, &Packet::v4(&a("nobody.example.org")).ip()).expect("tun");
    nix::unistd::write(&tun, &query).expect("tun");
    check_packets("over a tun", &query, &tun::read(&tun, SOON).expect("a reply"), 0, &model);
    let wanted = [("answered", "ipv4", 1), ("pass_not_found", "ipv4", 1)];
    assert_eq!(moved(&before, &datapath.queries().expect("counters")), wanted);
    let to_peer = datapath.test_run(Program::EthernetToPeer).expect("a program");
    let (verdict, _) = to_peer.run(&over_ethernet.frame, &mut [0; 2048]).expect("test run");
    assert_eq!(verdict, TC_ACT_REDIRECT);
    let question = probe::query("x.apps.example.org", TYPE_A).expect("a name");
    assert_eq!(probe::run(&datapath, &question).expect("a program").0, "answered");
    assert!(test_run(&datapath, &over_ethernet, &model));
}
