//! The packets, and what the program has to do with each.

use crate::common::packet::{
    COOKIE, ETHERNET, IPV4, IPV6, Opt, Packet, Query, TYPE_A, TYPE_AAAA, TYPE_OPT, TYPE_TXT, option, wire,
};
use edns::datapath::counters::FAMILIES;

#[derive(Clone, Copy)]
pub enum Expect {
    /// Passes, counted with this outcome or not at all.
    Pass(Option<&'static str>),
    /// Is answered, counted with this outcome.
    Reply(&'static str),
}

pub struct Row {
    pub what: String,
    pub frame: Vec<u8>,
    v6: bool,
    pub expect: Expect,
}

impl Row {
    pub fn family(&self) -> &'static str {
        FAMILIES[usize::from(self.v6)]
    }
}

pub fn row(what: impl Into<String>, packet: &Packet, expect: Expect) -> Row {
    Row { what: what.into(), frame: packet.frame(), v6: packet.src.is_ipv6(), expect }
}

fn pass(what: impl Into<String>, packet: &Packet, outcome: &'static str) -> Row {
    row(what, packet, Expect::Pass(Some(outcome)))
}

fn uncounted(what: impl Into<String>, packet: &Packet) -> Row {
    row(what, packet, Expect::Pass(None))
}

pub fn longest() -> String {
    [63, 63, 63, 61].map(|n| "x".repeat(n)).join(".")
}

/// Number of records and length of the names whose answers have 512 and 513 octets, and 1232 and 1233 with an OPT record.
pub const SIZED: [(u8, usize); 4] = [(30, 16), (30, 17), (74, 21), (74, 22)];

/// A name of this length in wire format.
pub fn sized(len: usize) -> String {
    format!("{}.sized", "x".repeat(len - 8))
}

pub fn a(name: &str) -> Query {
    Query::new(name, TYPE_A)
}

pub fn web() -> Query {
    a("web.example.org")
}

/// The query over IPv4 and IPv6.
pub fn both(query: &Query) -> [Packet; 2] {
    [Packet::v4(query), Packet::v6(query)]
}

pub fn passing() -> Vec<Row> {
    let mut rows = truncated();
    rows.extend(shortened());
    rows.extend(bad_messages());
    rows.extend(bad_edns());
    rows.extend(bad_lengths());
    rows.extend(bad_addresses());
    rows.extend(not_plain_udp());
    rows
}

/// Frames that are truncated anywhere in their IP packet.
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

/// Messages that are truncated, in datagrams whose lengths fit them.
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
    // The root label counts: a name has at most 255 octets.
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
        ("an unknown name", a("nobody.example.org"), "pass_not_found"),
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
        ("octets after the OPT", with(1, [opt().octets(), vec![0]].concat())),
        ("an option with the reserved code 0", with_options(&option(0, &[]))),
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
        ("more padding options than the program parses", with_options(&option(12, &[]).repeat(33))),
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
        // Both lengths agree and reach beyond the frame.
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
    // 127.0.0.1 and other IPv4-mapped addresses: sockets use them internally, and no host accepts one from a network.
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
        // From port 53 to another port: a server's reply.
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
        pass("IPv6 without UDP checksum", &Packet { udp_checksum: Some(0), ..v6.clone() }, "pass_malformed"),
        uncounted("VLAN in VLAN", &Packet { tags: vec![(0x8100, 5), (0x8100, 6)], ..v4.clone() }),
        uncounted("VLAN in a provider's", &Packet { tags: vec![(0x88a8, 5), (0x8100, 6)], ..v6 }),
    ]
}

pub fn answered() -> Vec<Row> {
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
            "two cookies, three padding options",
            &with_options(
                &[option(12, &[7; 9]), COOKIE.into(), option(12, &[]), COOKIE.into(), option(12, &[1; 99])].concat(),
            ),
        ),
        answered("as many options as the program parses", &with_options(&option(12, &[]).repeat(32))),
        answered("EDNS of size 0", &web().edns(&Opt::new(0))),
        answered("EDNS with unassigned flags", &web().edns(&Opt { flags: 0x7fff, ..Opt::new(512) })),
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
        // The kernel removes one tag from the frame before the program sees it.
        for tag in [(0x8100, 0x6005), (0x88a8, 7)] {
            let packet = Packet { tags: vec![tag], ..packet.clone() };
            rows.push(row(format!("VLAN tag {tag:x?}"), &packet, Expect::Reply("answered")));
        }
    }
    let v4 = Packet::v4(&web());
    rows.extend([
        row("without UDP checksum", &Packet { udp_checksum: Some(0), ..v4.clone() }, Expect::Reply("answered")),
        row("without DF", &Packet { frag: 0, ..v4 }, Expect::Reply("answered")),
        // Local resolvers listen on loopback addresses.
        row("to 127/8", &Packet::between("192.0.2.7", "127.0.0.53", &web()), Expect::Reply("answered")),
        row("to ::1", &Packet::between("2001:db8::7", "::1", &web()), Expect::Reply("answered")),
        // Addresses next to refused ones.
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
