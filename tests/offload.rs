//! Replies on real interfaces to real sockets, with every setting of checksum offload. The checksum must be correct on the
//! wire, and a checksum that was left to the interface must still be left to it.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use common::attach::{Hook, attach};
use common::decode::{self, Asked, Datagram};
use common::lab::{Netns, veth};
use common::model::{Model, addresses, agrees, node};
use common::packet::{COOKIE, ETHERNET, Opt, Query, TYPE_A, TYPE_AAAA, hex};
use common::raw::{RawSocket, Received};
use edns::datapath::{Datapath, Program, Table};

const SOON: Duration = Duration::from_secs(10);
const SERVER_MAC: &str = "02:00:00:00:00:53";
/// Names of odd and even length, so that the answer begins at either.
const NAMES: [&str; 3] = ["one.example.org", "some.example.org", "many.example.org"];

fn zone(table: &mut Table) -> Model {
    let mut model = Model::default();
    for (name, count) in NAMES.into_iter().zip([1, 5, 20]) {
        let v4: Vec<_> = (0..count).map(|i| Ipv4Addr::new(10, 1, count, i)).collect();
        let v6: Vec<_> = (0..count).map(|i| Ipv6Addr::new(0xfd00, count.into(), 0, 0, 0, 0, 0, i.into())).collect();
        model.put(table, name, node(vec![(TYPE_A, addresses(&v4, 30)), (TYPE_AAAA, addresses(&v6, 30))]));
    }
    model
}

fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for name in NAMES {
        for qtype in [TYPE_A, TYPE_AAAA] {
            let query = Query::new(name, qtype);
            let opt = Opt { flags: 0x8000, options: COOKIE.into(), ..Opt::new(1232) };
            queries.extend([query.clone().edns(&Opt::new(1232)), query.clone().edns(&opt)]);
            if name != "many.example.org" || qtype == TYPE_A {
                queries.push(query);
            }
        }
    }
    for (query, id) in queries.iter_mut().zip(0x4000..) {
        query.id = id;
    }
    queries
}

/// Sets checksum offload of an interface and the offloads that depend on it.
fn set_offloads(netns: &Netns, interface: &str, on: bool) {
    let state = if on { "on" } else { "off" };
    netns.exec(&format!("ethtool -K {interface} tx {state} rx {state} sg {state} tso {state} gso {state} gro off"));
}

fn is_dns(frame: &Received, query: &[u8]) -> bool {
    Datagram::read(&frame.octets, ETHERNET)
        .is_ok_and(|d| (d.dport == 53 || d.sport == 53) && d.payload[..2] == query[..2])
}

/// A socket in a namespace, connected to a server.
fn client(netns: &Netns, local: &str, server: &str) -> UdpSocket {
    netns.run(|| {
        let socket = UdpSocket::bind(local).unwrap_or_else(|e| panic!("{local}: {e}"));
        socket.connect(server).unwrap_or_else(|e| panic!("{server}: {e}"));
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
        socket
    })
}

/// The reply to a query, checked in every respect.
fn ask(what: &str, socket: &UdpSocket, query: &Query, model: &Model) -> Vec<u8> {
    let sent = query.octets();
    socket.send(&sent).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut reply = vec![0; 2048];
    let len = socket.recv(&mut reply).unwrap_or_else(|e| panic!("{what}: no reply: {e}\n{}", hex(&sent)));
    reply.truncate(len);
    let check = || {
        let asked = Asked::message(&sent)?;
        let answer = model.expected(&asked).ok_or("not in the zone")?;
        agrees(&decode::message(&asked, &reply)?, &asked, answer)
    };
    check().unwrap_or_else(|e| panic!("{what}: {e}\n{}", hex(&reply)));
    reply
}

/// The namespaces of a pod and a host, joined by a veth pair.
struct Pair {
    pod: Netns,
    host: Netns,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { pod: Netns::quiet("pod"), host: Netns::quiet("host") };
        veth((&pair.host, "p"), (&pair.pod, "eth0"));
        for (netns, interface, last) in [(&pair.host, "p", 1), (&pair.pod, "eth0", 2)] {
            netns.ip(&format!("addr add 10.77.0.{last}/24 dev {interface}"));
            netns.ip(&format!("addr add fd77::{last}/64 dev {interface} nodad"));
        }
        pair
    }

    fn clients(&self) -> [(&'static str, UdpSocket); 2] {
        [
            ("IPv4", client(&self.pod, "10.77.0.2:0", "10.77.0.1:53")),
            ("IPv6", client(&self.pod, "[fd77::2]:0", "[fd77::1]:53")),
        ]
    }
}

/// Attaches one of the two programs for ingress.
fn ingress(datapath: &Datapath, netns: &Netns, interface: &str, peer: bool) -> OwnedFd {
    let program = if peer { Program::EthernetToPeer } else { Program::Ethernet };
    attach(datapath.program(program).expect("a program"), netns, interface, Hook::Ingress)
}

#[test]
fn to_a_pod_with_any_offloads() {
    let (datapath, mut table) = common::load(false, 64);
    let model = zone(&mut table);
    for peer in [false, true] {
        let pair = Pair::new();
        let _link = ingress(&datapath, &pair.host, "p", peer);
        // The query as the host's interface receives it, and the reply as the pod's does.
        let (at_host, at_pod) = (RawSocket::open(&pair.host, "p"), RawSocket::open(&pair.pod, "eth0"));
        for (pod_offload, host_offload) in [(false, false), (true, false), (false, true), (true, true)] {
            set_offloads(&pair.pod, "eth0", pod_offload);
            set_offloads(&pair.host, "p", host_offload);
            for (family, socket) in pair.clients() {
                for query in queries() {
                    datapath.beat().expect("heartbeat");
                    let sent = query.octets();
                    let what = format!(
                        "{family}, {}, pod tx {pod_offload}, host tx {host_offload}",
                        if peer { "to the peer" } else { "by redirect" }
                    );
                    let message = ask(&what, &socket, &query, &model);
                    let query =
                        at_host.receive(SOON, |f| is_dns(f, &sent)).unwrap_or_else(|| panic!("{what}: no query"));
                    let reply =
                        at_pod.receive(SOON, |f| is_dns(f, &sent)).unwrap_or_else(|| panic!("{what}: no reply"));
                    assert!(reply.octets.ends_with(&message), "{what}: the socket got another reply");
                    // The offload settings took effect.
                    assert_eq!(query.checksum_pending, pod_offload, "{what}: the query");
                    let on_wire = !pod_offload || !host_offload && !peer;
                    if on_wire {
                        assert!(!reply.checksum_pending, "{what}: the checksum is not complete");
                        let read = Datagram::read(&reply.octets, ETHERNET).unwrap_or_else(|e| panic!("{what}: {e}"));
                        assert!(read.has_correct_checksums(), "{what}: {read:x?}\n{}", hex(&reply.octets));
                    } else {
                        assert!(
                            reply.checksum_pending,
                            "{what}: the checksum is complete, though it was left to the interface"
                        );
                    }
                    if !query.checksum_pending && !reply.checksum_pending {
                        let frames = decode::reply(&query.octets, &reply.octets, ETHERNET);
                        frames.unwrap_or_else(|e| panic!("{what}: {e}\n{}", hex(&reply.octets)));
                    }
                }
            }
        }
    }
}

/// A process of the host queries an address that no host has. The program is on egress; the reply arrives on the same
/// interface.
#[test]
fn to_a_local_socket() {
    let (datapath, mut table) = common::load(true, 64);
    let model = zone(&mut table);
    let pair = Pair::new();
    for (address, family) in [("10.9.9.9", "-4"), ("fd09::9", "-6")] {
        pair.host.ip(&format!("{family} route add {address} dev p"));
        pair.host.ip(&format!("neigh add {address} lladdr {SERVER_MAC} dev p nud permanent"));
    }
    let _link = attach(datapath.program(Program::Ethernet).expect("a program"), &pair.host, "p", Hook::Egress);
    let (at_host, at_pod) = (RawSocket::open(&pair.host, "p"), RawSocket::open(&pair.pod, "eth0"));
    for offload in [true, false] {
        set_offloads(&pair.host, "p", offload);
        let clients = [
            ("IPv4", client(&pair.host, "10.77.0.1:0", "10.9.9.9:53")),
            ("IPv6", client(&pair.host, "[fd77::1]:0", "[fd09::9]:53")),
        ];
        for (family, socket) in clients {
            let what = format!("{family}, egress, tx {offload}");
            for query in queries() {
                datapath.beat().expect("heartbeat");
                let sent = query.octets();
                ask(&what, &socket, &query, &model);
                let reply = at_host.receive(SOON, |f| is_dns(f, &sent)).unwrap_or_else(|| panic!("{what}: no reply"));
                if !reply.checksum_pending {
                    let read = Datagram::read(&reply.octets, ETHERNET).unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(read.has_correct_checksums(), "{what}: {read:x?}\n{}", hex(&reply.octets));
                }
                let out = at_pod.receive(Duration::ZERO, |f| is_dns(f, &sent));
                assert!(out.is_none(), "{what}: it left the host as well");
            }
            // Queries that are not answered leave the host.
            let query = Query::new("nobody.example.org", TYPE_A).octets();
            socket.send(&query).expect("send");
            let out = at_pod.receive(SOON, |f| is_dns(f, &query)).unwrap_or_else(|| panic!("{what}: lost"));
            assert!(out.octets.ends_with(&query), "{what}");
        }
    }
}

/// The pod's interface is a port of a bridge, and the server is behind another port: the frames are for another host.
#[test]
fn to_a_pod_on_a_bridge() {
    let (datapath, mut table) = common::load(false, 64);
    let model = zone(&mut table);
    for peer in [false, true] {
        let (pod, host, server) = (Netns::quiet("pod"), Netns::quiet("host"), Netns::quiet("server"));
        veth((&host, "p"), (&pod, "eth0"));
        veth((&host, "s"), (&server, "eth0"));
        host.ip("link add br0 type bridge");
        host.ip("link set br0 up");
        host.ip("link set p master br0");
        host.ip("link set s master br0");
        server.ip(&format!("link set eth0 address {SERVER_MAC}"));
        for (v4, v6, netns) in [("10.77.0.2", "fd77::2", &pod), ("10.77.0.53", "fd77::53", &server)] {
            netns.ip(&format!("addr add {v4}/24 dev eth0"));
            netns.ip(&format!("addr add {v6}/64 dev eth0 nodad"));
        }
        for address in ["10.77.0.53", "fd77::53"] {
            pod.ip(&format!("neigh add {address} lladdr {SERVER_MAC} dev eth0 nud permanent"));
        }
        let _link = ingress(&datapath, &host, "p", peer);
        let at_server = RawSocket::open(&server, "eth0");
        let clients = || {
            [
                ("IPv4", client(&pod, "10.77.0.2:0", "10.77.0.53:53")),
                ("IPv6", client(&pod, "[fd77::2]:0", "[fd77::53]:53")),
            ]
        };
        for offload in [true, false] {
            set_offloads(&pod, "eth0", offload);
            set_offloads(&host, "p", offload);
            for (family, socket) in clients() {
                let what =
                    format!("{family}, a bridge, tx {offload}, {}", if peer { "to the peer" } else { "by redirect" });
                for query in queries() {
                    datapath.beat().expect("heartbeat");
                    ask(&what, &socket, &query, &model);
                    let sent = query.octets();
                    assert!(
                        at_server.receive(Duration::ZERO, |f| is_dns(f, &sent)).is_none(),
                        "{what}: it passed as well"
                    );
                }
                let query = Query::new("nobody.example.org", TYPE_A).octets();
                socket.send(&query).expect("send");
                let on = at_server.receive(SOON, |f| is_dns(f, &query)).unwrap_or_else(|| panic!("{what}: lost"));
                assert!(on.octets.ends_with(&query), "{what}");
            }
        }
    }
}
