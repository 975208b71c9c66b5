//! The metadata of packets (skb fields), as other programs in the chain see it. A reply starts without the query's metadata,
//! and a packet that passes keeps its own. Also packets that are not one plain frame: segments, checksums that are left to an
//! interface, fragments.

#[path = "../common/mod.rs"]
mod common;
mod maps;
mod vnet;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::attach::{Hook, attach};
use common::decode::{self, Asked, Datagram};
use common::env_number;
use common::lab::{Netns, veth};
use common::model::{Model, addresses, agrees, node};
use common::mutate::{BRIDGE_MAC, mutated, zone};
use common::packet::{COOKIE, ETHERNET, OPTION_PADDING, Opt, Packet, Query, TYPE_A, hex, option};
use common::raw::{RawSocket, Received};
use common::rng::Rng;
use common::witness::{Metadata, Witness};
use edns::datapath::{Datapath, OUTCOMES, Program};
use edns::interfaces::Accepts;
use maps::{maps_of, read_scratch, write_scratch};
use vnet::{Offload, UDP_CHECKSUM, VnetSocket, pseudo_checksum, reply_len, set_segment};

const SOON: Duration = Duration::from_secs(10);
/// Larger than every frame of this test.
const MTU: u32 = 9000;
/// A name of `zone` with one address.
const NAME: &str = "n0.a.example.org";

/// The program between two others on an interface of the node. Packets that pass reach a server.
struct Chain<'a> {
    datapath: &'a Datapath,
    /// Sends queries and receives the replies.
    client: RawSocket,
    vnet: VnetSocket,
    server: RawSocket,
    witness: Witness,
    pod: Netns,
    node: Netns,
    _links: Vec<OwnedFd>,
    _server: Netns,
}

impl<'a> Chain<'a> {
    /// On egress the client is the node itself.
    fn new(datapath: &'a Datapath, program: Program, hook: Hook) -> Self {
        let (pod, node, server) = (Netns::quiet("pod"), Netns::quiet("node"), Netns::quiet("server"));
        veth((&node, "p"), (&pod, "eth0"));
        veth((&node, "s"), (&server, "eth0"));
        for (netns, interface) in [(&node, "p"), (&node, "s"), (&pod, "eth0"), (&server, "eth0")] {
            netns.ip(&format!("link set {interface} mtu {MTU}"));
        }
        if matches!(hook, Hook::Egress) {
            node.ip(&format!("link set p address {}", mac(Packet::v4(&query()).src_mac)));
        }
        let witness = Witness::new(Some(node.ifindex("s")));
        let program = datapath.program(program).expect("a program");
        let links = [witness.front().as_fd(), program, witness.behind().as_fd()].map(|p| attach(p, &node, "p", hook));
        let (netns, interface) = match hook {
            Hook::Ingress => (&pod, "eth0"),
            Hook::Egress => (&node, "p"),
        };
        let (client, vnet) = (RawSocket::open(netns, interface), VnetSocket::open(netns, interface));
        let server_socket = RawSocket::open(&server, "eth0");
        Self {
            datapath,
            client,
            vnet,
            server: server_socket,
            witness,
            pod,
            node,
            _links: links.into(),
            _server: server,
        }
    }

    /// Sends a frame that has to pass, and checks that it is unchanged.
    fn passes(&self, what: &str, frame: &[u8]) {
        self.passes_by(what, frame, Offload::None);
    }

    fn passes_by(&self, what: &str, frame: &[u8], offload: Offload) {
        self.datapath.beat().expect("heartbeat");
        let before = self.witness.seen().count;
        self.send(frame, offload).unwrap_or_else(|e| panic!("{what}: {e}\n{}", hex(frame)));
        let got =
            self.server.receive(SOON, |r| is_from(r, frame)).unwrap_or_else(|| panic!("{what}: lost\n{}", hex(frame)));
        assert_eq!(hex(&got.octets), hex(frame), "{what}: on the wire");
        let seen = self.witness.seen();
        assert_eq!(seen.count, before + 1, "{what}");
        assert_eq!(hex(&seen.octets), hex(frame), "{what}: in the chain");
        assert_eq!(seen.metadata, self.witness.given(), "{what}\n{}", hex(frame));
        assert_eq!(seen.metadata.gso_size, offload.gso_size(), "{what}\n{}", hex(frame));
    }

    /// Sends a frame that has to be answered; returns the reply.
    fn replies(&self, what: &str, frame: &[u8]) -> Vec<u8> {
        self.replies_by(what, frame, Offload::None)
    }

    fn replies_by(&self, what: &str, frame: &[u8], offload: Offload) -> Vec<u8> {
        self.datapath.beat().expect("heartbeat");
        let before = self.witness.seen().count;
        self.send(frame, offload).unwrap_or_else(|e| panic!("{what}: {e}\n{}", hex(frame)));
        let got = self.client.receive(SOON, |r| is_to(r, frame));
        assert_eq!(self.witness.seen().count, before, "{what}: it passed\n{}", hex(frame));
        got.unwrap_or_else(|| panic!("{what}: no reply\n{}", hex(frame))).octets
    }

    fn send(&self, frame: &[u8], offload: Offload) -> io::Result<()> {
        match offload {
            Offload::None => self.client.send(frame),
            offload => self.vnet.send(frame, offload),
        }
    }
}

/// In the notation of `ip link`.
fn mac(octets: [u8; 6]) -> String {
    octets.map(|o| format!("{o:02x}")).join(":")
}

/// Frames that the kernel sends on its own have other addresses.
fn is_from(received: &Received, frame: &[u8]) -> bool {
    received.octets.len() >= ETHERNET && received.octets[6..12] == frame[6..12]
}

fn is_to(received: &Received, frame: &[u8]) -> bool {
    received.octets.len() >= ETHERNET && received.octets[..6] == frame[6..12]
}

fn check(model: &Model, frame: &[u8], reply: &[u8]) {
    let check = || {
        let read = decode::reply(frame, reply, ETHERNET)?;
        let asked = Asked::read(&Datagram::read(frame, ETHERNET)?)?;
        agrees(&read, &asked, model.expected(&asked).ok_or("not in the zone")?)
    };
    check().unwrap_or_else(|e: String| panic!("{e}\n{}\n{}", hex(frame), hex(reply)));
}

fn query() -> Query {
    Query::new(NAME, TYPE_A)
}

/// A query with an OPT record of these options. The program that searches answers it.
fn with_options(options: &[u8]) -> Query {
    query().edns(&Opt { options: options.into(), ..Opt::new(1232) })
}

/// Queries that are answered on each path, by the exact lookup and by the search, over both families.
fn queries() -> Vec<Packet> {
    let queries = [
        query(),
        with_options(&COOKIE),
        Query::new(&NAME.to_uppercase(), TYPE_A),
        with_options(&option(OPTION_PADDING, &[0; 300])),
    ];
    queries.iter().flat_map(|q| [Packet::v4(q), Packet::v6(q)]).collect()
}

const VARIANTS: [(Program, Hook); 3] =
    [(Program::Ethernet, Hook::Ingress), (Program::EthernetToPeer, Hook::Ingress), (Program::Ethernet, Hook::Egress)];

/// EDNS_FUZZ_PACKETS sets the number of packets, EDNS_FUZZ_SEED repeats a run.
#[test]
fn random_frames_that_pass_keep_their_metadata() {
    let packets = env_number("EDNS_FUZZ_PACKETS", 50_000);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let seed = env_number("EDNS_FUZZ_SEED", now.as_nanos() as u64);
    eprintln!("EDNS_FUZZ_SEED={seed}");
    for (program, hook) in VARIANTS {
        let (datapath, mut table) = common::load(matches!(hook, Hook::Egress), 1024);
        let model = zone(&mut table);
        let mut names: Vec<Vec<u8>> = model.names().map(<[u8]>::to_vec).collect();
        names.sort();
        let chain = Chain::new(&datapath, program, hook);
        // As on a network card that is a bridge port. The program for client ports accepts every address.
        let own = Packet::v4(&query()).dst_mac;
        if matches!(hook, Hook::Ingress) {
            chain.node.ip(&format!("link set p address {}", mac(own)));
        }
        let port = (chain.node.ifindex("p") as u32, Accepts::OwnAnd(BRIDGE_MAC));
        datapath.set_accepted_macs(&BTreeMap::from([port])).expect("frames that the interface takes");
        let takes = |frame: &[u8]| match (program, hook) {
            (Program::Ethernet, Hook::Ingress) => frame[..6] == own || frame[..6] == BRIDGE_MAC,
            _ => true,
        };
        let (mut answered, mut offloaded) = (0, 0);
        for number in 0..packets / VARIANTS.len() as u64 {
            let mut rng = Rng::new(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let mut frame = mutated(&mut rng, &names);
            let offload = Offload::random(&mut rng, &mut frame);
            let what = format!("EDNS_FUZZ_SEED={seed}, {program:?}, {hook:?}, packet {number}, {offload:?}");
            let datagram = Datagram::read(&frame, ETHERNET);
            let asked = datagram.as_ref().ok().and_then(|d| Asked::read(d).ok()).filter(|_| takes(&frame));
            let answer = asked.and_then(|asked| Some(reply_len(&asked, model.expected(&asked)?, &frame)));
            if answer.is_some_and(|len| offload.lets_answer(&frame, len)) {
                check(&model, &frame, &chain.replies_by(&what, &frame, offload));
                answered += 1;
                offloaded += u64::from(offload != Offload::None);
            } else {
                chain.passes_by(&what, &frame, offload);
            }
        }
        eprintln!("{program:?}, {hook:?}: {answered} answered, {offloaded} of them with a checksum to be completed");
        assert!(answered > packets / 30, "{answered} answered");
        assert!(offloaded > packets / 300, "{offloaded} answered with a checksum to be completed");
    }
}

/// The map of tail calls is empty, as after the daemon exits.
#[test]
fn queries_without_a_next_program_pass_unchanged() {
    for (program, hook) in VARIANTS {
        let (datapath, mut table) = common::load(matches!(hook, Hook::Egress), 1024);
        let _model = zone(&mut table);
        let chain = Chain::new(&datapath, program, hook);
        let steps = &maps_of(datapath.program(program).expect("a program"))["edns_steps"];
        for step in 0_u32..4 {
            // SAFETY: the key lives through the call. Not all are in there.
            unsafe { libbpf_sys::bpf_map_delete_elem(steps.as_raw_fd(), (&raw const step).cast()) };
        }
        for packet in queries() {
            chain.passes("no next program", &packet.frame());
        }
        assert_eq!(count(&datapath, "pass_daemon"), queries().len() as u64);
    }
}

/// The memory for searches is in use, as when a kernel with PREEMPT_RT interrupts a search by another packet.
#[test]
fn queries_that_find_the_memory_for_searches_in_use_pass_unchanged() {
    for (program, hook) in VARIANTS {
        let (datapath, mut table) = common::load(matches!(hook, Hook::Egress), 1024);
        let model = zone(&mut table);
        let chain = Chain::new(&datapath, program, hook);
        let scratch = &maps_of(datapath.program(program).expect("a program"))["edns_scratch"];
        let free = read_scratch(scratch);
        write_scratch(scratch, &vec![1; free.len()]);
        let taken = read_scratch(scratch);
        for packet in queries() {
            let frame = packet.frame();
            write_scratch(scratch, &taken);
            if packet.payload == query().octets() {
                check(&model, &frame, &chain.replies("no search", &frame));
            } else {
                chain.passes("taken", &frame);
            }
            assert!(read_scratch(scratch) == taken, "changed by a program that had not acquired it");
            write_scratch(scratch, &free);
            check(&model, &frame, &chain.replies("free", &frame));
            check(&model, &frame, &chain.replies("given back", &frame));
        }
        assert_eq!(count(&datapath, "pass_error"), queries().len() as u64 - 2);
    }
}

/// A program before eDNS' sets metadata on the query; the reply has none of it.
#[test]
fn a_reply_starts_without_the_querys_metadata() {
    for (program, hook) in VARIANTS {
        let (datapath, mut table) = common::load(matches!(hook, Hook::Egress), 1024);
        let model = zone(&mut table);
        let chain = Chain::new(&datapath, program, hook);
        // Attached to the next hook on the way of the reply.
        let observer = Witness::new(None);
        let (netns, interface, at) = match (program, hook) {
            (Program::EthernetToPeer, _) => (&chain.pod, "eth0", Hook::Ingress),
            (_, Hook::Ingress) => (&chain.node, "p", Hook::Egress),
            (_, Hook::Egress) => (&chain.node, "p", Hook::Ingress),
        };
        let _link = attach(observer.behind().as_fd(), netns, interface, at);
        let large = (0..).map(|i| format!("n{i}.")).zip('a'..='p').map(|(n, _)| n).nth(11).expect("a name");
        let large = model.names().find(|n| n.starts_with(&common::packet::wire(&large)[..4])).expect("a name").to_vec();
        let large = Query::of_wire(large, TYPE_A).edns(&Opt::new(1232));
        let packets = queries().into_iter().chain([Packet::v4(&large), Packet::v6(&large)]);
        for (i, packet) in packets.map(|p| Packet { tos: 0xff, ..p }).enumerate() {
            let what = format!("{program:?}, {}", packet.src);
            let frame = packet.frame();
            check(&model, &frame, &chain.replies(&what, &frame));
            let given = chain.witness.given();
            assert!(given.mark != 0 || given.priority != 0 || given.cb != [0; 5], "no metadata on the query");
            let stays = Metadata { hash: given.hash, queue_mapping: given.queue_mapping, ..Metadata::default() };
            let seen = observer.seen();
            assert_eq!(seen.count, i as u64 + 1, "{what}");
            assert_eq!(Metadata { tstamp: 0, ..seen.metadata }, stays, "{what}");
            // The time of arrival, if any; never the query's time of transmission.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64;
            let age = now.saturating_sub(seen.metadata.tstamp);
            assert!(
                seen.metadata.tstamp == 0 || age < SOON.as_nanos() as u64,
                "{what}: {} at {now}",
                seen.metadata.tstamp
            );
        }
    }
}

/// UDP_SEGMENT: the kernel holds several datagrams as one packet, whose DNS message may look complete.
#[test]
fn segments_pass_whole() {
    let (datapath, mut table) = common::load(false, 1024);
    let _model = zone(&mut table);
    let (pod, host) = (Netns::quiet("pod"), Netns::quiet("node"));
    veth((&host, "p"), (&pod, "eth0"));
    host.ip("addr add 10.77.0.1/24 dev p");
    pod.ip("addr add 10.77.0.2/24 dev eth0");
    let server = host.run(|| UdpSocket::bind("10.77.0.1:53")).expect("a server");
    server.set_read_timeout(Some(SOON)).expect("a time-out");
    let client = pod.run(|| UdpSocket::bind("10.77.0.2:0")).expect("a client");
    client.connect("10.77.0.1:53").expect("connect");
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let _link = attach(datapath.program(Program::EthernetToPeer).expect("a program"), &host, "p", Hook::Ingress);
    // The padding of the first datagram's OPT covers the other two. And a message in segments of 20 octets.
    let covering = with_options(&option(
        OPTION_PADDING,
        &vec![0; 600 - with_options(&option(OPTION_PADDING, &[])).octets().len()],
    ))
    .octets();
    assert_eq!(covering.len(), 600);
    for (what, message, size) in [("covering", covering, 200_u16), ("cut", query().octets(), 20)] {
        datapath.beat().expect("heartbeat");
        let before = count(&datapath, "pass_fragment");
        set_segment(&client, size);
        client.send(&message).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut buffer = [0; 2048];
        for segment in message.chunks(size.into()) {
            let len = server.recv(&mut buffer).unwrap_or_else(|e| panic!("{what}: lost: {e}"));
            assert_eq!(hex(&buffer[..len]), hex(segment), "{what}");
        }
        assert_eq!(count(&datapath, "pass_fragment"), before + 1, "{what}");
        assert!(client.recv(&mut buffer).is_err(), "{what}: answered");
        // As one datagram it is a query.
        set_segment(&client, 0);
        client.send(&message).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(client.recv(&mut buffer).is_ok(), "{what}: not answered");
    }
}

/// A sender of frames may ask the interface to write a checksum anywhere. The kernel doesn't trim a packet before that place.
#[test]
fn a_checksum_to_be_written_elsewhere_passes_where_the_reply_is_shorter() {
    let (datapath, mut table) = common::load(false, 1024);
    let _model = zone(&mut table);
    let chain = Chain::new(&datapath, Program::EthernetToPeer, Hook::Ingress);
    for packet in [Packet::v4, Packet::v6].map(|p| p(&with_options(&option(OPTION_PADDING, &[0; 400])))) {
        let frame = packet.frame();
        let end = frame.len() as u16;
        let udp = end - packet.payload.len() as u16 - 8;
        for (start, offset) in [(end - 2, 0), (end - 8, 6), (udp, 8), (udp, 300), (udp + 2, 4), (udp - 4, 10)] {
            let before = count(&datapath, "pass_error");
            chain.passes_by(&format!("{start}+{offset}"), &frame, Offload::Checksum { start, offset });
            assert_eq!(count(&datapath, "pass_error"), before + 1, "{start}+{offset}");
        }
        // In the UDP checksum field: it holds the checksum of the pseudo-header, also in the reply.
        let mut partial = frame.clone();
        let whole = Datagram::read(&frame, ETHERNET).expect("a query");
        assert!(whole.has_correct_checksums());
        let sum = pseudo_checksum(&frame, packet.src.is_ipv4()).to_be_bytes();
        partial[usize::from(udp + UDP_CHECKSUM)..][..2].copy_from_slice(&sum);
        chain.vnet.send(&partial, Offload::Checksum { start: udp, offset: UDP_CHECKSUM }).expect("send");
        let reply = chain.client.receive(SOON, |r| is_to(r, &frame)).expect("a reply");
        assert!(reply.checksum_pending, "the checksum is complete, though it was left to the interface");
        let read = Datagram::read(&reply.octets, ETHERNET).expect("a reply");
        assert!(read.has_pseudo_checksum && read.padding == 0, "{read:?}");
        assert!(reply.octets.len() < frame.len(), "the reply is shorter");
    }
    // Programs that can't read that place let packets pass that they would have to trim, and answer all others.
    let options = edns::datapath::Options { ext_btf: None, egress: false, max_records: 1024, programs: Vec::new() };
    let (datapath, mut table) = Datapath::load_without_probe_read(&options).unwrap_or_else(|e| panic!("{e}"));
    datapath.settings().set_any_server(common::BOTH_ZONES);
    datapath.beat().expect("heartbeat");
    let model = zone(&mut table);
    let chain = Chain::new(&datapath, Program::EthernetToPeer, Hook::Ingress);
    chain.passes("unread", &Packet::v4(&with_options(&option(OPTION_PADDING, &[0; 400]))).frame());
    let frame = Packet::v4(&with_options(&COOKIE)).frame();
    check(&model, &frame, &chain.replies("not cut", &frame));
}

/// A sender of frames may state another protocol. What its kernel then parses as headers may reach beyond the question. The
/// kernel doesn't trim a packet before their end, and a veth keeps that end.
#[test]
fn headers_that_reach_beyond_the_reply_pass_where_it_is_shorter() {
    for (program, hook) in [(Program::EthernetToPeer, Hook::Ingress), (Program::Ethernet, Hook::Egress)] {
        let (datapath, mut table) = common::load(matches!(hook, Hook::Egress), 1024);
        let model = zone(&mut table);
        let chain = Chain::new(&datapath, program, hook);
        let (long, short) = (option(OPTION_PADDING, &[0; 400]), option(OPTION_PADDING, &[0; 4]));
        // IPv4 parsed as IPv6: without DF the protocol field reads as a hop-by-hop header, whose length is the name's first
        // letter.
        for (options, protocol, passes) in
            [(&long, libc::ETH_P_IPV6, true), (&long, libc::ETH_P_IP, false), (&short, libc::ETH_P_IPV6, false)]
        {
            let what = format!("{hook:?}, {} octets as {protocol:#x}", options.len());
            let frame = Packet { frag: 0, ..Packet::v4(&with_options(options)) }.frame();
            let before = count(&datapath, "pass_error");
            datapath.beat().expect("heartbeat");
            chain.client.send_as(protocol as u16, &frame).expect("send");
            if passes {
                let got = chain.server.receive(SOON, |r| is_from(r, &frame));
                let got = got.unwrap_or_else(|| panic!("{what}: lost"));
                assert_eq!(hex(&got.octets), hex(&frame), "{what}");
                assert_eq!(chain.witness.seen().metadata, chain.witness.given(), "{what}");
            } else {
                let got = chain.client.receive(SOON, |r| is_to(r, &frame));
                check(&model, &frame, &got.unwrap_or_else(|| panic!("{what}: no reply")).octets);
            }
            assert_eq!(count(&datapath, "pass_error"), before + u64::from(passes), "{what}");
        }
    }
}

/// A container whose link has a smaller MTU than the uplink, as behind a tunnel: a large answer is fragmented there. The
/// fragments of two answers at once, interleaved, are reassembled correctly only if each answer has an identification of its
/// own.
#[test]
fn large_answers_at_once_are_fragmented_and_reassembled() {
    let (datapath, mut table) = common::load(true, 1024);
    let names = ["one.example.org", "two.example.org"];
    let mut model = Model::default();
    for (name, net) in names.into_iter().zip(1..) {
        let all: Vec<_> = (0..70).map(|i| Ipv4Addr::new(10, net, 0, i)).collect();
        model.put(&mut table, name, node(vec![(TYPE_A, addresses(&all, 30))]));
    }
    let (container, wire, host, outside) =
        (Netns::quiet("container"), Netns::quiet("wire"), Netns::quiet("host"), Netns::quiet("outside"));
    veth((&host, "uplink"), (&outside, "eth0"));
    veth((&host, "c0"), (&wire, "w0"));
    veth((&wire, "w1"), (&container, "eth0"));
    for (netns, interface, address) in
        [(&host, "uplink", "192.0.2.1/24"), (&host, "c0", "172.30.0.1/24"), (&container, "eth0", "172.30.0.2/24")]
    {
        netns.ip(&format!("addr add {address} dev {interface}"));
    }
    host.sysctl("net/ipv4/ip_forward", "1");
    for (netns, interface, mac) in [(&host, "c0", "02:00:00:00:00:01"), (&container, "eth0", "02:00:00:00:00:02")] {
        netns.ip(&format!("link set {interface} address {mac} mtu 1000"));
    }
    // The namespace `wire` forwards frames as they are.
    container.exec("ethtool -K eth0 tx off");
    host.ip("neigh add 172.30.0.2 lladdr 02:00:00:00:00:02 dev c0 nud permanent");
    host.ip("neigh add 192.0.2.53 lladdr 02:00:00:00:00:53 dev uplink nud permanent");
    container.ip("neigh add 172.30.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    container.ip("route add default via 172.30.0.1");
    let _link = attach(datapath.program(Program::Ethernet).expect("a program"), &host, "uplink", Hook::Egress);
    let (to_host, to_container) = (RawSocket::open(&wire, "w0"), RawSocket::open(&wire, "w1"));
    let is_ipv4 = |r: &Received| r.octets.len() > ETHERNET && r.octets[12..14] == [8, 0];

    // Once in 65,536 times both have the same identification.
    for _ in 0..3 {
        datapath.beat().expect("heartbeat");
        let asked = names.map(|name| {
            let socket = container.run(|| UdpSocket::bind("172.30.0.2:0")).expect("a socket");
            socket.set_read_timeout(Some(SOON)).expect("a time-out");
            let message = Query::new(name, TYPE_A).edns(&Opt::new(1232)).octets();
            container.run(|| socket.send_to(&message, "192.0.2.53:53")).expect("send");
            let frame = to_container.receive(SOON, is_ipv4).expect("a query");
            assert_eq!(frame.octets[20], 0x40, "DF is set");
            to_host.send(&frame.octets).expect("send");
            let fragments = [(); 2].map(|()| to_host.receive(SOON, is_ipv4).expect("a fragment").octets);
            (socket, message, fragments)
        });
        let id = |frame: &[u8]| [frame[18], frame[19]];
        let [[one, other], [first, second]] = [&asked[0].2, &asked[1].2];
        assert!(
            one[20] & 0x60 == 0x20 && id(one) == id(other) && id(first) == id(second),
            "fragments with one identification each"
        );
        if id(one) == id(first) {
            continue;
        }
        for fragment in [one, first, second, other] {
            to_container.send(fragment).expect("send");
        }
        for (socket, message, _) in &asked {
            let mut reply = [0; 2048];
            let len = socket.recv(&mut reply).expect("a reply");
            let asked = Asked::message(message).expect("a query");
            let answer = model.expected(&asked).expect("an answer");
            agrees(&decode::message(&asked, &reply[..len]).expect("a reply"), &asked, answer).expect("the right one");
        }
        return;
    }
    panic!("the same identification three times");
}

fn count(datapath: &Datapath, outcome: &str) -> u64 {
    let at = OUTCOMES.iter().position(|o| o.name == outcome).expect("an outcome");
    datapath.queries().expect("counters")[at].iter().sum()
}
