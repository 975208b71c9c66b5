//! What no answer may come of: each packet must go on octet for octet, with the verdict "next", counted as what it is. And
//! what must be answered, without which the rest would prove nothing.
//!
//! Every row runs as a test run, where the kernel takes it, and over a veth pair through each program for Ethernet. There a
//! second program behind ours sends what it gets to see to a third namespace, where it is compared.

mod common;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use common::attach::{Hook, attach, forwarder};
use common::model::{Model, absence, addresses, agrees, node};
use common::netns::{Netns, veth};
use common::packet::{
    COOKIE, ETHERNET, IPV4, IPV6, Opt, Packet, Query, TYPE_A, TYPE_AAAA, TYPE_OPT, TYPE_TXT, hex, option, wire,
};
use common::raw::{RawSocket, Received};
use common::{BOTH_ZONES, TC_ACT_REDIRECT, TC_ACT_UNSPEC, decode, tun};
use edns::datapath::counters::{FAMILIES, OUTCOMES, Queries};
use edns::datapath::{Datapath, Gate, HashKey, Program, Table, probe};
use edns::zone::name::Name;
use edns::zone::node::{Kind, Node, ZoneId};

const SOON: Duration = Duration::from_secs(10);
/// Above everything that is sent here.
const MTU: u32 = 9000;

#[derive(Clone, Copy)]
enum Expect {
    /// Passes; counted so, or not at all.
    Pass(Option<&'static str>),
    /// Answered; counted so.
    Reply(&'static str),
}

struct Row {
    what: String,
    frame: Vec<u8>,
    v6: bool,
    expect: Expect,
}

impl Row {
    fn family(&self) -> &'static str {
        FAMILIES[usize::from(self.v6)]
    }
}

fn row(what: impl Into<String>, packet: &Packet, expect: Expect) -> Row {
    Row { what: what.into(), frame: packet.frame(), v6: packet.src.is_ipv6(), expect }
}

fn pass(what: impl Into<String>, packet: &Packet, outcome: &'static str) -> Row {
    row(what, packet, Expect::Pass(Some(outcome)))
}

fn uncounted(what: impl Into<String>, packet: &Packet) -> Row {
    row(what, packet, Expect::Pass(None))
}

fn longest() -> String {
    [63, 63, 63, 61].map(|n| "x".repeat(n)).join(".")
}

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
            (TYPE_AAAA, absence(Kind::Nodata, &common::model::OWNER)),
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
    let nxdomain = Arc::new(node(vec![(0, absence(Kind::Nxdomain, &wire("zone.example.org")))]));
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

/// Records and length of names whose answers have 512 and 513 octets, and with an OPT 1232 and 1233.
const SIZED: [(u8, usize); 4] = [(30, 16), (30, 17), (74, 21), (74, 22)];

/// A name of as many octets on the wire.
fn sized(len: usize) -> String {
    format!("{}.sized", "x".repeat(len - 8))
}

fn a(name: &str) -> Query {
    Query::new(name, TYPE_A)
}

fn web() -> Query {
    a("web.example.org")
}

/// The same query over both families.
fn both(query: &Query) -> [Packet; 2] {
    [Packet::v4(query), Packet::v6(query)]
}

fn passing() -> Vec<Row> {
    let mut rows = truncated();
    rows.extend(shortened());
    rows.extend(bad_messages());
    rows.extend(bad_edns());
    rows.extend(bad_lengths());
    rows.extend(bad_addresses());
    rows.extend(not_plain_udp());
    rows
}

/// Frames that end before their IP packet does, wherever that is.
fn truncated() -> Vec<Row> {
    let mut rows = Vec::new();
    for query in [web(), web().edns(&Opt { options: COOKIE.into(), ..Opt::new(1232) })] {
        for packet in both(&query) {
            let whole = packet.frame();
            let v6 = packet.src.is_ipv6();
            let seen = ETHERNET + if v6 { IPV6 } else { IPV4 } + 8;
            for len in ETHERNET..whole.len() {
                let expect = Expect::Pass((len >= seen).then_some("pass_malformed"));
                let what = format!("{} of {} octets, IPv{}", len, whole.len(), if v6 { 6 } else { 4 });
                rows.push(Row { what, frame: whole[..len].into(), v6, expect });
            }
        }
    }
    rows
}

/// Messages that end early in a datagram whose lengths say so.
fn shortened() -> Vec<Row> {
    let mut rows = Vec::new();
    let (plain, with_opt) = (web().octets().len(), web().edns(&Opt::new(1232)).octets().len());
    for query in [web(), web().edns(&Opt::new(1232))] {
        for mut packet in both(&query) {
            for len in 0..packet.payload.len() {
                packet.payload = query.octets()[..len].into();
                let outcome = if len >= plain { "pass_edns" } else { "pass_malformed" };
                rows.push(pass(format!("a message of {len} octets of {plain} or {with_opt}"), &packet, outcome));
            }
        }
    }
    rows
}

fn bad_messages() -> Vec<Row> {
    let name = |wire: &[u8]| Query::of_wire(wire.to_vec(), TYPE_A);
    // The final zero counts: 255 octets are the most.
    let labels_of = |lengths: &[usize]| {
        let labels = lengths.iter().flat_map(|n| [vec![*n as u8], vec![b'x'; *n]].concat());
        labels.chain([0]).collect::<Vec<u8>>()
    };
    let mut queries = vec![
        ("a pointer for a name", name(&[0xc0, 0x0c]), "pass_malformed"),
        ("a pointer in the name", name(b"\x03web\xc0\x0c\0"), "pass_malformed"),
        ("label type 0x40", name(b"\x41web\x07example\x03org\0"), "pass_malformed"),
        ("label type 0x80", name(b"\x83web\x07example\x03org\0"), "pass_malformed"),
        ("a label of 64", name(&[&[64], &[b'x'; 64][..], &[0]].concat()), "pass_malformed"),
        ("a name of 256", name(&labels_of(&[63, 63, 63, 62])), "pass_malformed"),
        ("a name of 257", name(&labels_of(&[63, 63, 63, 63])), "pass_malformed"),
        ("a name of 128 labels", name(&[[1, b'a'].repeat(128), vec![0]].concat()), "pass_malformed"),
        ("a name of 600", name(&[[63; 64].repeat(9), vec![0]].concat()), "pass_malformed"),
        ("a name without end", Query { qtype: 0x3f3f, qclass: 0x3f3f, ..name(b"\x3fweb") }, "pass_malformed"),
        ("type ANY", Query { qtype: 255, ..web() }, "pass_qtype"),
        ("type AXFR", Query { qtype: 252, ..web() }, "pass_qtype"),
        ("type IXFR", Query { qtype: 251, ..web() }, "pass_qtype"),
        ("type TSIG", Query { qtype: 250, ..web() }, "pass_qtype"),
        ("type 128", Query { qtype: 128, ..web() }, "pass_qtype"),
        ("type OPT", Query { qtype: TYPE_OPT, ..web() }, "pass_qtype"),
        ("type 0", Query { qtype: 0, ..web() }, "pass_qtype"),
        ("a type that the name does not list", Query { qtype: TYPE_TXT, ..web() }, "pass_qtype"),
        ("class CH", Query { qclass: 3, ..web() }, "pass_qtype"),
        ("class ANY", Query { qclass: 255, ..web() }, "pass_qtype"),
        ("class 0", Query { qclass: 0, ..web() }, "pass_qtype"),
        ("a class with the unicast bit of mDNS", Query { qclass: 0x8001, ..web() }, "pass_qtype"),
        ("a name that nobody knows", a("nobody.example.org"), "pass_not_found"),
        ("the root", Query::of_wire(vec![0], TYPE_A), "pass_not_found"),
        ("a name left to the server", a("left.example.org"), "pass_name"),
        ("a name below one left to the server", a("x.left.example.org"), "pass_not_found"),
        ("an encloser that only has a wildcard", a("apps.example.org"), "pass_name"),
        ("a name's wire with another label cut", name(b"\x0bweb.example\x03org\0"), "pass_not_found"),
        ("more than 512 octets", a("many.example.org"), "pass_too_large"),
        ("more than 512 octets for an OPT of 100", a("many.example.org").edns(&Opt::new(100)), "pass_too_large"),
        ("513 octets", a(&sized(17)), "pass_too_large"),
        ("513 octets and an OPT of 523", a(&sized(17)).edns(&Opt::new(523)), "pass_too_large"),
        ("1233 octets", a(&sized(22)).edns(&Opt::new(4096)), "pass_too_large"),
        ("1232 octets for an OPT of 1231", a(&sized(21)).edns(&Opt::new(1231)), "pass_too_large"),
        ("more than the OPT's size", a("many.example.org").edns(&Opt::new(900)), "pass_too_large"),
    ];
    for (what, counts) in [
        ("QDCOUNT 0", [0, 0, 0, 0]),
        ("QDCOUNT 2", [2, 0, 0, 0]),
        ("QDCOUNT 256", [256, 0, 0, 0]),
        ("ANCOUNT 1", [1, 1, 0, 0]),
        ("ANCOUNT 256", [1, 256, 0, 0]),
        ("NSCOUNT 1", [1, 0, 1, 0]),
        ("ANCOUNT and NSCOUNT 65535", [1, 65535, 65535, 0]),
    ] {
        queries.push((what, Query { counts, ..web() }, "pass_malformed"));
    }
    let flags = [("QR", 0x8000), ("TC", 0x0200), ("IQUERY", 0x0800), ("STATUS", 0x1000), ("UPDATE", 0x2800)];
    for (what, flags) in flags.into_iter().chain([("OPCODE 8", 0x4000), ("all flags", 0xffff)]) {
        queries.push((what, Query { flags, ..web() }, "pass_malformed"));
    }
    for len in [1, 2, 11, 16] {
        queries.push(("trailing octets", Query { tail: vec![0; len], ..web() }, "pass_malformed"));
    }
    queries.iter().flat_map(|(what, query, outcome)| both(query).map(|p| pass(*what, &p, outcome))).collect()
}

fn bad_edns() -> Vec<Row> {
    let opt = || Opt::new(1232);
    let record = [&[0][..], &[0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]].concat();
    let with = |arcount, tail: Vec<u8>| Query { counts: [1, 0, 0, arcount], tail, ..web() };
    let with_options = |options: &[u8]| web().edns(&Opt { options: options.into(), ..opt() });
    let queries = [
        ("ARCOUNT 1 and nothing there", with(1, Vec::new())),
        ("ARCOUNT 1 and another record", with(1, record.clone())),
        ("ARCOUNT 1 and two OPTs", with(1, [opt().octets(), opt().octets()].concat())),
        ("ARCOUNT 2 and two OPTs", with(2, [opt().octets(), opt().octets()].concat())),
        ("ARCOUNT 2 and one OPT", with(2, opt().octets())),
        ("ARCOUNT 256 and one OPT", with(256, opt().octets())),
        ("an OPT and another record", with(2, [opt().octets(), record.clone()].concat())),
        ("another record and an OPT", with(2, [record, opt().octets()].concat())),
        ("OPT version 1", web().edns(&Opt { version: 1, ..opt() })),
        ("OPT with an extended rcode", web().edns(&Opt { ext_rcode: 1, ..opt() })),
        ("OPT of another owner", web().edns(&Opt { owner: wire("a"), ..opt() })),
        ("OPT of an owner by pointer", web().edns(&Opt { owner: vec![0xc0, 0x0c], ..opt() })),
        ("RDLENGTH too long", web().edns(&Opt { options: COOKIE.into(), rdlen: Some(13), ..opt() })),
        ("RDLENGTH too short", web().edns(&Opt { options: COOKIE.into(), rdlen: Some(11), ..opt() })),
        ("RDLENGTH 65535", web().edns(&Opt { rdlen: Some(65535), ..opt() })),
        ("RDLENGTH -11", web().edns(&Opt { rdlen: Some(65525), ..opt() })),
        ("octets behind the OPT", with(1, [opt().octets(), vec![0]].concat())),
        ("an option of no meaning", with_options(&option(0, &[]))),
        ("NSID", with_options(&option(3, &[]))),
        ("a client's subnet", with_options(&option(8, &[0, 1, 24, 0, 192, 0, 2]))),
        ("a malformed client's subnet", with_options(&option(8, &[]))),
        ("a cookie and a subnet", with_options(&[&COOKIE[..], &option(8, &[0, 1, 0, 0])].concat())),
        ("padding and an extended error", with_options(&[option(12, &[0; 30]), option(15, &[0, 0])].concat())),
        ("one octet of an option", with_options(&[0])),
        ("three octets of an option", with_options(&[&COOKIE[..], &[0, 12, 0]].concat())),
        ("a cookie that is cut short", with_options(&COOKIE[..11])),
        ("padding beyond the OPT", with_options(&[0, 12, 0, 5, 0, 0, 0, 0])),
        ("padding of 65535", with_options(&[0, 12, 255, 255, 0, 0, 0, 0])),
        ("options without end", with_options(&[0; 400])),
        ("more paddings than are looked at", with_options(&option(12, &[]).repeat(33))),
        ("a cookie of none", with_options(&option(10, &[]))),
        ("a cookie of 7", with_options(&option(10, &[1; 7]))),
        ("a cookie of 9", with_options(&option(10, &[1; 9]))),
        ("a cookie of 15", with_options(&option(10, &[1; 15]))),
        ("a cookie of 41", with_options(&option(10, &[1; 41]))),
    ];
    let mut rows: Vec<Row> =
        queries.iter().flat_map(|(what, query)| both(query).map(|p| pass(*what, &p, "pass_edns"))).collect();
    rows.extend(both(&with(0, opt().octets())).map(|p| pass("ARCOUNT 0 and an OPT", &p, "pass_malformed")));
    let options = Opt { options: vec![0; 2400], ..opt() };
    rows.extend(both(&web().edns(&options)).map(|p| pass("an OPT of 2400 octets", &p, "pass_too_large")));
    rows
}

fn bad_lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for packet in both(&web()) {
        let right = 8 + packet.payload.len() as u16;
        for len in [0, 7, 8, 24, right - 1, right + 1, right + 100, 65535] {
            let packet = Packet { udp_len: Some(len), padding: 64, ..packet.clone() };
            rows.push(pass(format!("UDP length {len}, not {right}"), &packet, "pass_malformed"));
        }
        let right = right + if packet.src.is_ipv4() { 20 } else { 0 };
        for len in [0, 8, 19, 20, 27, 28, right - 1, right + 1, right + 64, 65535] {
            let packet = Packet { ip_len: Some(len), padding: 64, ..packet.clone() };
            rows.push(pass(format!("IP length {len}, not {right}"), &packet, "pass_malformed"));
        }
        // Both agree, and reach beyond the frame.
        let len = packet.payload.len() as u16 + 8 + 3;
        let ip_len = len + if packet.src.is_ipv4() { 20 } else { 0 };
        let packet = Packet { udp_len: Some(len), ip_len: Some(ip_len), ..packet };
        rows.push(pass("IP and UDP beyond the frame", &packet, "pass_malformed"));
    }
    rows
}

fn bad_addresses() -> Vec<Row> {
    let mut rows = Vec::new();
    let bad_v4 = ["0.0.0.0", "0.255.255.255", "224.0.0.251", "239.255.255.255", "255.255.255.255"];
    // 127.0.0.1 and another IPv4 address within IPv6: for sockets alone, and no host takes either from outside.
    let bad_v6 = ["::", "::ffff:127.0.0.1", "::ffff:192.0.2.7", "::ffff:0:0", "ff02::fb", "ff00::"];
    for (good, bad) in bad_v4.map(|b| ("192.0.2.1", b)).into_iter().chain(bad_v6.map(|b| ("2001:db8::1", b))) {
        rows.push(pass(format!("from {bad}"), &Packet::between(bad, good, &web()), "pass_address"));
        rows.push(pass(format!("to {bad}"), &Packet::between(good, bad, &web()), "pass_address"));
    }
    for (from, to) in
        [("127.0.0.1", "127.0.0.53"), ("127.255.255.255", "192.0.2.1"), ("::1", "::1"), ("::1", "2001:db8::1")]
    {
        rows.push(pass(format!("from {from}"), &Packet::between(from, to, &web()), "pass_address"));
    }
    for packet in both(&web()) {
        rows.push(pass("broadcast MAC", &Packet { dst_mac: [0xff; 6], ..packet.clone() }, "pass_address"));
        rows.push(pass("multicast MAC", &Packet { dst_mac: [1, 0, 0x5e, 0, 0, 1], ..packet.clone() }, "pass_address"));
        rows.push(pass("from a broadcast MAC", &Packet { src_mac: [0xff; 6], ..packet.clone() }, "pass_address"));
        rows.push(pass(
            "from a multicast MAC",
            &Packet { src_mac: [1, 0, 0x5e, 0, 0, 1], ..packet.clone() },
            "pass_address",
        ));
        rows.push(pass("source port 53", &Packet { sport: 53, ..packet.clone() }, "pass_address"));
        rows.push(pass("source port 0", &Packet { sport: 0, ..packet.clone() }, "pass_address"));
        for dport in [0, 54, 5353, 0x3500] {
            rows.push(uncounted(format!("destination port {dport}"), &Packet { dport, ..packet.clone() }));
        }
        // From port 53 to another: a server's reply.
        rows.push(uncounted("a server's reply", &Packet { sport: 53, dport: 40_001, ..packet }));
    }
    rows
}

fn not_plain_udp() -> Vec<Row> {
    let v4 = Packet::v4(&web());
    let v6 = Packet::v6(&web());
    let nops = |words: usize| Packet { ip_options: vec![1; words * 4], ..v4.clone() };
    let patched = |what: &str, packet: &Packet, at: usize, octet: u8| {
        let mut row = uncounted(what, packet);
        row.frame[at] = octet;
        row
    };
    let extension = |number: u8, octets: &[u8]| Packet { extensions: vec![(number, octets.into())], ..v6.clone() };
    vec![
        pass("first fragment", &Packet { frag: 0x2000, ..v4.clone() }, "pass_fragment"),
        pass("first fragment with DF", &Packet { frag: 0x6000, ..v4.clone() }, "pass_fragment"),
        pass("the reserved bit", &Packet { frag: 0x8000, ..v4.clone() }, "pass_fragment"),
        uncounted("fragment in the middle", &Packet { frag: 0x2001, ..v4.clone() }),
        uncounted("last fragment", &Packet { frag: 0x1fff, ..v4.clone() }),
        pass("an IP option", &nops(1), "pass_ip_options"),
        pass("IP options", &nops(10), "pass_ip_options"),
        uncounted("IP options to another port", &Packet { dport: 54, ..nops(3) }),
        patched("IP header of 16 octets", &v4, ETHERNET, 0x44),
        patched("IPv4 of version 5", &v4, ETHERNET, 0x55),
        patched("IPv6 of version 4", &v6, ETHERNET, 0x40),
        patched("TCP", &v4, ETHERNET + 9, 6),
        patched("TCP over IPv6", &v6, ETHERNET + 6, 6),
        patched("IPv4 in an IPv6 frame", &v4, 12, 0x86),
        patched("ARP's EtherType", &v4, 13, 0x06),
        uncounted("hop-by-hop options", &extension(0, &[17, 0, 1, 4, 0, 0, 0, 0])),
        uncounted("destination options", &extension(60, &[17, 0, 1, 4, 0, 0, 0, 0])),
        uncounted("IPv6 fragment", &extension(44, &[17, 0, 0, 1, 0, 0, 0, 9])),
        uncounted("IPv6 atomic fragment", &extension(44, &[17, 0, 0, 0, 0, 0, 0, 9])),
        uncounted("routing header", &extension(43, &[17, 0, 4, 0, 0, 0, 0, 0])),
        pass("IPv6 without UDP sum", &Packet { udp_sum: Some(0), ..v6.clone() }, "pass_malformed"),
        uncounted("VLAN in VLAN", &Packet { tags: vec![(0x8100, 5), (0x8100, 6)], ..v4.clone() }),
        uncounted("VLAN in a provider's", &Packet { tags: vec![(0x88a8, 5), (0x8100, 6)], ..v6 }),
    ]
}

fn answered() -> Vec<Row> {
    let answered = |what: &str, query: &Query| {
        both(query)
            .map(|p| row(format!("{what}, IPv{}", if p.src.is_ipv4() { 4 } else { 6 }), &p, Expect::Reply("answered")))
    };
    let opt = |size| Opt { flags: 0x8000, options: COOKIE.into(), ..Opt::new(size) };
    let with_options = |options: &[u8]| web().edns(&Opt { options: options.into(), ..opt(4096) });
    let mut rows: Vec<Row> = [
        answered("A", &web()),
        answered("AAAA", &Query::new("web.example.org", TYPE_AAAA)),
        answered("mixed case", &a("wEb.ExAmPlE.OrG")),
        answered("a name of 255 octets", &a(&longest())),
        answered("a name of 127 labels", &a(&vec!["A"; 127].join("."))),
        answered("EDNS", &web().edns(&Opt::new(1232))),
        answered("EDNS with DO and a cookie", &web().edns(&opt(4096))),
        answered("EDNS with options longer than the answer", &with_options(&option(12, &[0; 400]))),
        answered("cookies of client and server", &with_options(&option(10, &[7; 16]))),
        answered("the longest cookie", &with_options(&option(10, &[7; 40]))),
        answered("a cookie, and padding of none", &with_options(&[option(10, &[7; 25]), option(12, &[])].concat())),
        answered(
            "two cookies, padding thrice",
            &with_options(
                &[option(12, &[7; 9]), COOKIE.into(), option(12, &[]), COOKIE.into(), option(12, &[1; 99])].concat(),
            ),
        ),
        answered("as many options as are looked at", &with_options(&option(12, &[]).repeat(32))),
        answered("EDNS of size 0", &web().edns(&Opt::new(0))),
        answered("EDNS with flags of no meaning yet", &web().edns(&Opt { flags: 0x7fff, ..Opt::new(512) })),
        answered("40 records", &a("some.example.org").edns(&opt(1232))),
        answered("60 records", &a("many.example.org").edns(&opt(1232))),
        answered("512 octets", &a(&sized(16))),
        answered("513 octets and an OPT of 524", &a(&sized(17)).edns(&Opt::new(524))),
        answered("1232 octets", &a(&sized(21)).edns(&Opt::new(1232))),
        answered("below a wildcard", &a("x.apps.example.org")),
        answered("deep below a wildcard", &a("x.y.z.apps.example.org")),
        answered("AD, CD and Z", &Query { flags: 0x0070, ..web() }),
        answered("AA and RA", &Query { flags: 0x0480, ..web() }),
    ]
    .into_iter()
    .flatten()
    .collect();
    for packet in both(&Query::new("v4.example.org", TYPE_AAAA)) {
        rows.push(row("NODATA", &packet, Expect::Reply("nodata")));
    }
    for name in ["no.zone.example.org", "not.even.zone.example.org"] {
        rows.extend(both(&a(name)).map(|p| row("NXDOMAIN", &p, Expect::Reply("nxdomain"))));
        rows.extend(both(&a(name).edns(&opt(512))).map(|p| row("NXDOMAIN with EDNS", &p, Expect::Reply("nxdomain"))));
    }
    for packet in both(&web()) {
        for padding in [1, 6, 18, 500] {
            let packet = Packet { padding, ..packet.clone() };
            rows.push(row(format!("{padding} octets of padding"), &packet, Expect::Reply("answered")));
        }
        // The kernel takes one tag out of the frame before the program sees it.
        for tag in [(0x8100, 0x6005), (0x88a8, 7)] {
            let packet = Packet { tags: vec![tag], ..packet.clone() };
            rows.push(row(format!("VLAN tag {tag:x?}"), &packet, Expect::Reply("answered")));
        }
    }
    let v4 = Packet::v4(&web());
    rows.extend([
        row("without UDP sum", &Packet { udp_sum: Some(0), ..v4.clone() }, Expect::Reply("answered")),
        row("without DF", &Packet { frag: 0, ..v4 }, Expect::Reply("answered")),
        // Resolvers listen on loopback.
        row("to 127/8", &Packet::between("192.0.2.7", "127.0.0.53", &web()), Expect::Reply("answered")),
        row("to ::1", &Packet::between("2001:db8::7", "::1", &web()), Expect::Reply("answered")),
        // Neighbours of those that are refused.
        row("from ::2", &Packet::between("::2", "2001:db8::7", &web()), Expect::Reply("answered")),
        row("from ::fffe:0:1", &Packet::between("::fffe:0:1", "2001:db8::7", &web()), Expect::Reply("answered")),
        row("from ::1:ffff:0:1", &Packet::between("::1:ffff:0:1", "2001:db8::7", &web()), Expect::Reply("answered")),
        row("from 1::ffff:0:1", &Packet::between("1::ffff:0:1", "2001:db8::7", &web()), Expect::Reply("answered")),
        row("to ::1:ffff:0:1", &Packet::between("2001:db8::7", "::1:ffff:0:1", &web()), Expect::Reply("answered")),
    ]);
    for packet in both(&web()) {
        for tos in [1, 3, 0xb8, 0xff] {
            rows.push(row(format!("TOS {tos}"), &Packet { tos, ..packet.clone() }, Expect::Reply("answered")));
        }
    }
    rows
}

/// The counters that moved.
fn moved(before: &Queries, after: &Queries) -> Vec<(&'static str, &'static str, u64)> {
    let mut moved = Vec::new();
    for (outcome, (before, after)) in OUTCOMES.iter().zip(before.iter().zip(after)) {
        for (family, (before, after)) in FAMILIES.iter().zip(before.iter().zip(after)) {
            if before != after {
                moved.push((*outcome, *family, after - before));
            }
        }
    }
    moved
}

/// Runs `f`, which sends the row's packet once, and checks what it was counted as.
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

/// A reply's frame against the query's; the VLAN tag must be the same.
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

/// As a test run; false where the kernel takes no such frame.
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

/// Pod and node joined by a veth pair, with the program on the node's end; what it passes goes on to `server`.
struct Wire {
    pod: RawSocket,
    server: RawSocket,
    node: Netns,
    _links: [OwnedFd; 2],
    _others: [Netns; 2],
}

impl Wire {
    fn new(program: std::os::fd::BorrowedFd<'_>) -> Self {
        let (pod, node, server) = (Netns::new("pod"), Netns::new("node"), Netns::new("server"));
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
        // Whatever is sent on its own by the kernel has other addresses.
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
        assert!(self.pod.receive(none, replied).is_none(), "{}: a reply too many", row.what);
        assert!(self.server.receive(none, passed).is_none(), "{}: it went on as well", row.what);
    }
}

#[test]
fn as_test_runs() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let rows: Vec<Row> = passing().into_iter().chain(answered()).collect();
    let ran = rows.iter().filter(|row| test_run(&datapath, row, &model)).count();
    // All but frames of no IP header's length and those with VLAN tags.
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

/// A search begins at the depth of the longest name and goes so many labels up. Those of IPv6 addresses have 34, and are no measure
/// for others.
#[test]
fn long_names_do_not_exist_whatever_addresses_have_names() {
    let (datapath, mut table) = common::load(false, 64);
    let absent = Arc::new(node(vec![(0, absence(Kind::Nxdomain, &wire("cluster.local")))]));
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
    check(&model, "no IPv6");
    model.put(&mut table, &address, node(vec![(12, addresses(&[[10, 0, 0, 1]], 30))]));
    check(&model, "an IPv6 address");
    // What is below its name is looked for from there on.
    let deep = row("below it", &Packet::v4(&a(&format!("x.y.{address}"))), Expect::Pass(Some("pass_not_found")));
    assert!(test_run(&datapath, &deep, &model));
    assert!(table.rekey(HashKey::random()));
    check(&model, "in an index beside");
    table.remove(&Name::parse(&address).expect("a name"));
    check(&model, "no IPv6 any more");
}

/// What passes because of what the daemon says, not because of the packet.
#[test]
fn as_told() {
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
    check("as it comes", &web(), answered);

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
    check("a server of ours", &web(), answered);
    for server in servers {
        datapath.set_server(server, 0).expect("a server");
    }
    check("a server of ours no more", &wildcard, || Expect::Pass(Some("pass_server")));
    settings.set_any_server(BOTH_ZONES);

    settings.set_positive_gate(ZoneId::Cluster, Gate::NotSynced);
    check("the other zone is not there", &web(), answered);
    settings.set_positive_gate(ZoneId::Static, Gate::NotSynced);
    for query in [&web(), &nodata, &nxdomain, &wildcard] {
        check("not synced", query, || Expect::Pass(Some("pass_not_synced")));
    }
    settings.set_positive_gate(ZoneId::Static, Gate::Open);
    settings.set_negative_gate(ZoneId::Static, Gate::Stale);
    for query in [&nodata, &nxdomain, &wildcard] {
        check("stale", query, || Expect::Pass(Some("pass_stale")));
    }
    check("stale, but this is there", &web(), answered);
    settings.set_negative_gate(ZoneId::Static, Gate::Incomplete);
    for query in [&nodata, &nxdomain, &wildcard] {
        check("incomplete", query, || Expect::Pass(Some("pass_incomplete")));
    }
    settings.set_negative_gate(ZoneId::Static, Gate::Open);
    check("nothing held back", &nxdomain, || Expect::Reply("nxdomain"));
}

/// Changes of one namespace that wait hold back what is said of absence there alone.
#[test]
fn negative_answers_have_gates_of_their_own() {
    let (datapath, mut table) = common::load(false, 64);
    let mut model = Model::default();
    for (name, gate) in [("a.test", 7), ("b.test", 255)] {
        let said = |kind| Some(Arc::new(Node { gate, ..node(vec![(0, absence(kind, &wire(name)))]) }));
        let types = vec![(TYPE_A, addresses(&[[10, 0, 0, 1]], 30))];
        let (fallback, child) = (said(Kind::Nodata), said(Kind::Nxdomain));
        model.put(&mut table, name, Node { fallback, child, ..node(types) });
    }
    let check = |closed: Option<&str>| {
        for name in ["a.test", "b.test"] {
            let below = a(&format!("x.{name}"));
            for (query, reply) in
                [(&a(name), "answered"), (&Query::new(name, TYPE_AAAA), "nodata"), (&below, "nxdomain")]
            {
                for packet in both(query) {
                    let is_held = closed == Some(name) && reply != "answered";
                    let expect = if is_held { Expect::Pass(Some("pass_stale")) } else { Expect::Reply(reply) };
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

/// An answer that the interface can't send is no answer.
#[test]
fn larger_than_the_interface_sends() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    let query = a("many.example.org").edns(&Opt::new(1232));
    for packet in both(&query) {
        let wire = Wire::new(datapath.program(Program::Ethernet).expect("a program"));
        let len = packet.ip().len() + 60 * 16;
        for (mtu, expect) in [(len, Expect::Reply("answered")), (len - 1, Expect::Pass(Some("pass_too_large")))] {
            // Below 1280 an interface has no IPv6 of its own, but what comes in still goes by the program.
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

/// An interface without link-layer header.
#[test]
fn over_a_tun() {
    let (datapath, mut table) = common::load(false, 1024);
    let model = zone(&mut table);
    // Beside a program for Ethernet that was loaded before, and others that are afterwards.
    let wildcard = Packet::v4(&a("x.apps.example.org"));
    let over_ethernet = row("over Ethernet", &wildcard, Expect::Reply("answered"));
    assert!(test_run(&datapath, &over_ethernet, &model));
    let node = Netns::new("node");
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
    // What is not answered comes to nobody: the next reply is to the next query.
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
