//! Queries of all kinds for a zone of many kinds of names, mutated at random.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use edns::datapath::Table;
use edns::zone::node::{ANY_TYPE, Answer, AnswerKind, Node, Verdict, ZoneId};

use super::decode::Datagram;
use super::model::{Model, OWNER, absence, addresses, node, record};
use super::packet::{
    COOKIE, ETHERNET, FLAG_RD, IPV4, IPV6, OPTION_COOKIE, OPTION_PADDING, Opt, Packet, Query, TYPE_A, TYPE_AAAA,
    TYPE_TXT, UDP, option, sum, wire,
};
use super::rng::Rng;

/// Test runs accept frames up to about a page on every kernel.
const FRAME_MAX: usize = 3000;

/// Names of all lengths and depths, wildcards, NODATA, answers of one to many records and of several sections.
pub fn zone(table: &mut Table) -> Model {
    let mut model = Model::default();
    let v4 = |n: usize, base: u32| -> Vec<Ipv4Addr> { (0..n as u32).map(|i| Ipv4Addr::from(base + i)).collect() };
    let v6 = |n: usize, base: u128| -> Vec<Ipv6Addr> { (0..n as u128).map(|i| Ipv6Addr::from(base + i)).collect() };
    let mut put = |name: &str, node: Node| model.put(table, name, node);

    for (i, records) in [1, 1, 2, 3, 5, 8, 13, 27, 28, 29, 30, 60, 71, 72, 73, 76].into_iter().enumerate() {
        let name = format!("n{i}.{}.example.org", "abcdefghijklmnopqrstuvwxyz".get(..=i).expect("short"));
        put(
            &name,
            node(vec![
                (TYPE_A, addresses(&v4(records, 0x0a00_0000 + i as u32 * 256), 30)),
                (TYPE_AAAA, addresses(&v6(records.min(40), i as u128 + 1), 60)),
            ]),
        );
    }
    // Names of every length: the last word of each is filled differently.
    for len in 1..=63 {
        put(&"q".repeat(len), node(vec![(TYPE_A, addresses(&v4(1, len as u32 + 0x0b00_0000), 5))]));
    }
    let longest = [63, 63, 63, 61].map(|n| "z".repeat(n)).join(".");
    put(
        &longest,
        node(vec![(TYPE_A, addresses(&v4(14, 0x0c00_0000), 30)), (TYPE_AAAA, absence(AnswerKind::Nodata, &OWNER))]),
    );
    put(
        "v4.example.org",
        node(vec![(TYPE_A, addresses(&v4(2, 0x0d00_0000), 30)), (TYPE_AAAA, absence(AnswerKind::Nodata, &OWNER))]),
    );
    // Answers of an odd number of octets, answers that don't rotate, and answers for types that a name lacks.
    let text: Vec<u8> = [&[5][..], b"hello"].concat();
    let texts = Answer {
        kind: AnswerKind::Answer,
        counts: [2, 0, 1],
        rotation: None,
        bytes: [
            record(&OWNER, TYPE_TXT, 1, &text),
            record(&OWNER, TYPE_TXT, 1, &[0]),
            record(&wire("more.example.org"), TYPE_A, 9, &[10, 9, 9, 9]),
        ]
        .concat()
        .into(),
    };
    put("txt.example.org", node(vec![(TYPE_TXT, texts), (ANY_TYPE, absence(AnswerKind::Nodata, &OWNER))]));

    // A zone: NXDOMAIN below it, NODATA for types that a name lacks, from nodes that names share.
    let soa = wire("cluster.local");
    let nodata = Arc::new(node(vec![(ANY_TYPE, absence(AnswerKind::Nodata, &soa))]));
    let nxdomain = Arc::new(node(vec![(ANY_TYPE, absence(AnswerKind::Nxdomain, &soa))]));
    let in_cluster = |types: Vec<(u16, Answer)>| Node {
        zone: ZoneId::Cluster,
        fallback: Some(Arc::clone(&nodata)),
        child: Some(Arc::clone(&nxdomain)),
        deep: Some(Arc::clone(&nxdomain)),
        ..node(types)
    };
    for name in ["cluster.local", "svc.cluster.local", "default.svc.cluster.local"] {
        put(name, in_cluster(Vec::new()));
    }
    for i in 0..40 {
        let ips = v4(1 + i as usize % 3, 0x0a60_0000 + i * 16);
        put(&format!("svc-{i}.default.svc.cluster.local"), in_cluster(vec![(TYPE_A, addresses(&ips, 30))]));
    }
    // An answer for one level below, another one for deeper levels.
    put(
        "one.example.net",
        Node {
            child: Some(Arc::new(node(vec![(TYPE_A, addresses(&v4(3, 0x0e00_0000), 30))]))),
            ..node(vec![(TYPE_A, addresses(&v4(1, 0x0e00_0100), 30))])
        },
    );
    put(
        "deep.example.net",
        Node {
            child: Some(Arc::new(node(vec![(TYPE_A, addresses(&v4(4, 0x0e00_0200), 30))]))),
            deep: Some(Arc::new(node(vec![(TYPE_AAAA, addresses(&v6(4, 7), 30))]))),
            ..Node::pass(ZoneId::Static)
        },
    );
    put("in.between.deep.example.net", node(vec![(TYPE_A, addresses(&v4(1, 0x0e00_0300), 30))]));
    put("left.deep.example.net", Node::pass(ZoneId::Static));
    put(
        "some.deep.example.net",
        Node {
            types: vec![(TYPE_A, Verdict::Pass), (TYPE_TXT, Verdict::Answer(absence(AnswerKind::Nodata, &OWNER)))],
            ..Node::pass(ZoneId::Static)
        },
    );
    model
}

/// A query for a name of the zone or close to one.
fn query(rng: &mut Rng, names: &[Vec<u8>]) -> Query {
    let mut name = rng.pick(names).clone();
    match rng.below(8) {
        // A name below it, by one label or more.
        0 | 1 => {
            for _ in 0..=rng.below(4) * rng.below(6) {
                let len = 1 + rng.below(12);
                let label: Vec<u8> =
                    std::iter::once(len as u8).chain((0..len).map(|_| b'a' + rng.octet() % 26)).collect();
                if name.len() + label.len() <= 255 {
                    name.splice(0..0, label);
                }
            }
        }
        // The parent of the name.
        2 if name[0] > 0 => drop(name.drain(..=usize::from(name[0]))),
        // A name with one octet changed.
        3 => {
            let at = rng.below(name.len());
            name[at] ^= 1 << rng.below(8);
        }
        _ => {}
    }
    let qtype = *rng.pick(&[TYPE_A, TYPE_A, TYPE_A, TYPE_AAAA, TYPE_AAAA, TYPE_TXT, 33, 65]);
    with_variety(rng, name, qtype)
}

/// A query for a name on the wire, with capitals, flags and EDNS at random.
pub fn with_variety(rng: &mut Rng, mut name: Vec<u8>, qtype: u16) -> Query {
    if rng.one_in(2) {
        for octet in &mut name {
            if octet.is_ascii_alphabetic() && rng.one_in(2) {
                *octet ^= 0x20;
            }
        }
    }
    let mut query = Query::of_wire(name, qtype);
    query.id = rng.next() as u16;
    query.flags = *rng.pick(&[0, FLAG_RD, FLAG_RD, 0x0120, 0x0110, 0x05f0]);
    if rng.one_in(2) {
        let mut opt = Opt::new(*rng.pick(&[0, 511, 512, 513, 1000, 1231, 1232, 1233, 4096, 65535]));
        if rng.one_in(2) {
            opt.udp_size = 512 + rng.below(800) as u16;
        }
        opt.flags = if rng.one_in(2) { 0x8000 } else { 0 };
        match rng.below(4) {
            0 => opt.options = COOKIE.into(),
            1 => opt.options = options(rng),
            _ => {}
        }
        query = query.edns(&opt);
    }
    query
}

/// OPT records and options that may be answered, and some that may not.
fn options(rng: &mut Rng) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..rng.below(4) {
        let any = rng.below(21) as u16;
        let code = *rng.pick(&[OPTION_COOKIE, OPTION_PADDING, OPTION_PADDING, any]);
        let len = if code == OPTION_COOKIE { *rng.pick(&[8, 16, 24, 40, 7, 9, 15, 41, 0]) } else { rng.below(120) };
        options.extend(option(code, &(0..len).map(|_| rng.octet()).collect::<Vec<_>>()));
    }
    if rng.one_in(4) {
        options.extend((0..rng.below(300)).map(|_| rng.octet()));
    }
    options
}

pub fn mutated(rng: &mut Rng, names: &[Vec<u8>]) -> Vec<u8> {
    let query = query(rng, names);
    let packet = if rng.one_in(2) { Packet::v4(&query) } else { Packet::v6(&query) };
    damaged(rng, packet, names)
}

/// The frame of a packet that is changed at random, or stays as it is.
pub fn damaged(rng: &mut Rng, mut packet: Packet, names: &[Vec<u8>]) -> Vec<u8> {
    if rng.one_in(16) {
        odd_ends(rng, &mut packet);
    }
    if rng.one_in(4) {
        packet.tos = rng.octet();
    }
    if rng.one_in(4) {
        packet.frag = 0;
    }
    packet.sport = if rng.one_in(64) { *rng.pick(&[0, 53]) } else { rng.next() as u16 };
    if rng.one_in(8) {
        packet.padding = rng.below(64);
    }
    if rng.one_in(16) && packet.src.is_ipv4() {
        packet.udp_checksum = Some(0);
    }
    // Messages that are changed inside correct lengths get further than those with wrong lengths outside.
    if rng.one_in(3) {
        for _ in 0..=rng.below(3) {
            damage(rng, &mut packet.payload, 0, names);
        }
    }
    let mut frame = packet.frame();
    if rng.one_in(3) {
        for _ in 0..=rng.below(3) {
            damage(rng, &mut frame, ETHERNET, names);
        }
        if rng.one_in(2) {
            right_lengths(rng, &mut frame);
        }
        if rng.one_in(2) {
            correct_checksums(&mut frame);
        }
    }
    frame
}

/// Link-layer address of a bridge whose port the interface may be.
pub const BRIDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb0];

/// Replaces an IP or link-layer address by one that is no host's or another host's, or by one to which answers are allowed.
fn odd_ends(rng: &mut Rng, packet: &mut Packet) {
    let (v4, v6) = (
        [
            "127.0.0.1",
            "127.255.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.251",
            "255.255.255.255",
            "128.0.0.1",
            "10.0.0.1",
        ],
        ["::1", "::", "ff02::fb", "fe80::1", "::2", "::ffff:127.0.0.1"],
    );
    let address = if packet.src.is_ipv4() { *rng.pick(&v4) } else { *rng.pick(&v6) };
    let address = address.parse().expect("an address");
    let mac =
        *rng.pick(&[BRIDGE_MAC, [2, 0, 0, 0, 0, 0x99], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]]);
    match rng.below(4) {
        0 => packet.src = address,
        1 => packet.dst = address,
        2 => packet.src_mac = mac,
        _ => packet.dst_mac = mac,
    }
}

/// Makes one change. In a frame the first `head` octets stay unchanged.
fn damage(rng: &mut Rng, octets: &mut Vec<u8>, head: usize, names: &[Vec<u8>]) {
    if octets.is_empty() {
        return;
    }
    let at = rng.below(octets.len());
    match rng.below(12) {
        0 | 1 => octets[at] ^= 1 << rng.below(8),
        2 => octets[at] = rng.octet(),
        3 => octets[at] = *rng.pick(&[0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff]),
        // In the headers, where most fields are.
        4 | 5 => {
            let at = rng.below(octets.len().min(head + IPV6 + UDP + 16));
            octets[at] ^= 1 << rng.below(8);
        }
        6 => octets.truncate(at.max(head)),
        7 => {
            let extra: Vec<u8> = (0..rng.below(40)).map(|_| rng.octet()).collect();
            octets.extend(extra);
        }
        8 => {
            // Copies a part of it to the end or to another place.
            let len = rng.below(24).min(octets.len() - at);
            let piece = octets[at..at + len].to_vec();
            let to = head.min(octets.len()) + rng.below(octets.len() - head.min(octets.len()) + 1);
            if octets.len() + len < FRAME_MAX {
                octets.splice(to..to, piece);
            }
        }
        9 => {
            let len = rng.below(8).min(octets.len() - at);
            if at >= head {
                octets.drain(at..at + len);
            }
        }
        10 => {
            // Changes a 16-bit field to a value close to it.
            if at + 1 < octets.len() {
                let number =
                    u16::from_be_bytes([octets[at], octets[at + 1]]).wrapping_add(rng.below(5) as u16).wrapping_sub(2);
                octets[at..at + 2].copy_from_slice(&number.to_be_bytes());
            }
        }
        _ => {
            let name = rng.pick(names);
            let len = name.len().min(octets.len() - at);
            octets[at..at + len].copy_from_slice(&name[..len]);
        }
    }
}

/// Makes the lengths fit the frame, so that other damage is looked at.
fn right_lengths(rng: &mut Rng, frame: &mut [u8]) {
    let v4 = frame.len() >= ETHERNET + IPV4 + UDP && frame[12..15] == [0x08, 0, 0x45];
    let v6 = frame.len() >= ETHERNET + IPV6 + UDP && frame[12..14] == [0x86, 0xdd];
    if !v4 && !v6 {
        return;
    }
    let behind = if rng.one_in(4) { rng.below(8) } else { 0 };
    let udp = ETHERNET + if v4 { IPV4 } else { IPV6 };
    let len = (frame.len() - udp).saturating_sub(behind).max(UDP) as u16;
    if v4 {
        frame[16..18].copy_from_slice(&(len + IPV4 as u16).to_be_bytes());
    } else {
        frame[18..20].copy_from_slice(&len.to_be_bytes());
    }
    frame[udp + 4..udp + 6].copy_from_slice(&len.to_be_bytes());
}

fn correct_checksums(frame: &mut [u8]) {
    if frame.len() >= ETHERNET + IPV4 && frame[12..15] == [0x08, 0, 0x45] {
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = !sum(&[&frame[ETHERNET..ETHERNET + IPV4]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let Ok(datagram) = Datagram::read(frame, ETHERNET) else { return };
    let (error, end) = (datagram.udp_error, frame.len() - datagram.padding);
    let at = end - datagram.payload.len() - 2;
    if datagram.has_checksum {
        // One's complement arithmetic: subtracts the error.
        let sum = sum(&[&frame[at..at + 2], &(!error).to_be_bytes()]);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
