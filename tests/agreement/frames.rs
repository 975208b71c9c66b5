//! Random frames: most of them queries, some damaged, some not DNS at all.

use std::net::IpAddr;

use crate::common::mutate::{damaged, with_variety};
use crate::common::packet::{ETHERNET, IPV4, IPV6, Packet, Query, TYPE_A, TYPE_AAAA, TYPE_TXT, UDP, sum};
use crate::questions;
use crate::rng::Rng;
use crate::static_names::NAMES;
use crate::wire::Frame;

/// DNS servers that queries are sent to: that of the cluster most of the time.
const SERVERS: [&str; 6] = ["10.96.0.10", "10.96.0.10", "10.96.0.10", "10.96.0.10", "192.0.2.53", "10.96.0.50"];
const SERVERS6: [&str; 2] = ["fd00:10:96::a", "2001:db8::53"];
/// IP protocols that queries are disguised as: ICMP, IPv4, TCP, UDP-Lite, ICMPv6, hop-by-hop options, fragments.
const PROTOCOLS: [u8; 7] = [1, 4, 6, 136, 58, 0, 44];
/// Their ethertypes: ARP, LLDP, MPLS, a length, IPv6, IPv4.
const ETHERTYPES: [[u8; 2]; 6] = [[0x08, 0x06], [0x88, 0xcc], [0x88, 0x47], [0, 60], [0x86, 0xdd], [8, 0]];
/// `struct virtio_net_hdr`: VIRTIO_NET_HDR_F_NEEDS_CSUM and VIRTIO_NET_HDR_GSO_UDP_L4.
const NEEDS_CSUM: u8 = 1;
const GSO_UDP_L4: u8 = 5;
/// Offset of the checksum in a UDP header.
const UDP_CHECK: u16 = 6;

/// Names on the wire for frames that are damaged.
pub fn names(rng: &mut Rng) -> Vec<Vec<u8>> {
    (0..2000).map(|_| wire(&questions::random(rng).0)).collect()
}

/// A name on the wire, also one that is too long.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

pub fn random(rng: &mut Rng, names: &[Vec<u8>]) -> Frame {
    let plain = |octets| Frame { offload: [0; 10], octets };
    match rng.below(20) {
        0..=10 => plain(packet(rng).frame()),
        11 => unfinished(rng),
        12..=16 => {
            let packet = packet(rng);
            plain(damaged(rng, packet, names))
        }
        17 | 18 => plain(not_dns(rng)),
        _ => plain(noise(rng)),
    }
}

/// A query from a client to a server.
fn packet(rng: &mut Rng) -> Packet {
    let (name, qtype) = if rng.one_in(5) {
        (rng.pick(&NAMES).to_string(), *rng.pick(&[TYPE_A, TYPE_A, TYPE_AAAA, TYPE_AAAA, TYPE_TXT]))
    } else {
        let (name, rtype) = questions::random(rng);
        (name, rtype.into())
    };
    let query = with_variety(rng, wire(&name), qtype);
    between(rng, &query)
}

fn between(rng: &mut Rng, query: &Query) -> Packet {
    let is_ipv6 = rng.one_in(3);
    let servers: &[&str] = if is_ipv6 { &SERVERS6 } else { &SERVERS };
    let server = rng.pick(servers);
    let mut packet = Packet::between(if is_ipv6 { "2001:db8::7" } else { "192.0.2.7" }, server, query);
    packet.sport = 1 + rng.below(65_535) as u16;
    match rng.below(24) {
        0 => packet.tags = vec![(0x8100, rng.next() as u16)],
        1 => packet.tags = vec![(0x88a8, rng.next() as u16), (0x8100, rng.next() as u16)],
        2 => packet.tos = rng.octet(),
        3 => packet.frag = *rng.pick(&[0, 0x2000, 0x8000, 1]),
        4 => packet.udp_checksum = Some(0),
        5 => packet.udp_checksum = Some(rng.next() as u16),
        6 => packet.padding = rng.below(80),
        7 => packet.ip_options = vec![1; 4 * (1 + rng.below(10))],
        8 => packet.extensions = vec![(*rng.pick(&[0, 43, 60]), vec![0; 8])],
        9 => packet.dport = *rng.pick(&[0, 52, 54, 5353, 853]),
        10 => packet.payload.extend((0..rng.below(1500)).map(|_| 0xaa)),
        _ => {}
    }
    packet
}

/// A query as a local socket sends it: its checksum is the interface's to finish. Some name another place for it, or segments.
fn unfinished(rng: &mut Rng) -> Frame {
    let mut packet = packet(rng);
    let ip = if packet.src.is_ipv4() { IPV4 + packet.ip_options.len() } else { IPV6 };
    let start = (ETHERNET + 4 * packet.tags.len() + ip) as u16;
    let addresses: Vec<u8> = [packet.src, packet.dst].iter().flat_map(octets).collect();
    let len = ((UDP + packet.payload.len()) as u16).to_be_bytes();
    packet.udp_checksum = Some(sum(&[&addresses, &[0, 17], &len]));
    let is_elsewhere = rng.one_in(8);
    let csum_start = if is_elsewhere { start + rng.below(40) as u16 } else { start };
    let csum_offset = if is_elsewhere { 2 * rng.below(8) as u16 } else { UDP_CHECK };
    let is_segmented = rng.one_in(16);
    let size = if is_segmented { 1 + (packet.payload.len() / 2) as u16 } else { 0 };
    let mut offload = [0; 10];
    offload[0] = NEEDS_CSUM;
    offload[1] = if is_segmented { GSO_UDP_L4 } else { 0 };
    for (at, value) in [(2, start + UDP as u16), (4, size), (6, csum_start), (8, csum_offset)] {
        offload[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    Frame { offload, octets: packet.frame() }
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().into(),
        IpAddr::V6(a) => a.octets().into(),
    }
}

/// A query's frame that says that it is something else.
fn not_dns(rng: &mut Rng) -> Vec<u8> {
    let packet = packet(rng);
    let mut frame = packet.frame();
    let ip = ETHERNET + 4 * packet.tags.len();
    match rng.below(3) {
        0 => frame[ip + if packet.src.is_ipv4() { 9 } else { 6 }] = *rng.pick(&PROTOCOLS),
        1 => frame[ip - 2..ip].copy_from_slice(&rng.pick(&ETHERTYPES)[..]),
        _ => frame[ip] = rng.octet(),
    }
    frame
}

/// Random octets behind an Ethernet header, or a query cut short anywhere.
fn noise(rng: &mut Rng) -> Vec<u8> {
    let mut frame = packet(rng).frame();
    if rng.one_in(2) {
        frame.truncate(ETHERNET + rng.below(frame.len() - ETHERNET));
        return frame;
    }
    frame.truncate(ETHERNET);
    frame.extend((0..rng.below(1400)).map(|_| rng.octet()));
    frame
}
