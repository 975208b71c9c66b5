//! Queries as frames. Checksums and lengths are correct unless a test sets them.

use std::net::IpAddr;

pub const ETHERNET: usize = 14;
pub const IPV4: usize = 20;
pub const IPV6: usize = 40;
pub const UDP: usize = 8;
pub const DNS: usize = 12;

pub const TYPE_A: u16 = 1;
pub const TYPE_SOA: u16 = 6;
pub const TYPE_TXT: u16 = 16;
pub const TYPE_AAAA: u16 = 28;
pub const TYPE_OPT: u16 = 41;
pub const CLASS_IN: u16 = 1;
pub const FLAG_RD: u16 = 0x0100;

/// A DNS message. Tests may set every field to a wrong value.
#[derive(Clone)]
pub struct Query {
    pub id: u16,
    pub flags: u16,
    /// QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
    pub counts: [u16; 4],
    /// QNAME in wire format.
    pub qname: Vec<u8>,
    pub qtype: u16,
    pub qclass: u16,
    /// Octets after the question.
    pub tail: Vec<u8>,
}

impl Query {
    pub fn new(name: &str, qtype: u16) -> Self {
        Self::of_wire(wire(name), qtype)
    }

    pub fn of_wire(qname: Vec<u8>, qtype: u16) -> Self {
        Self { id: 0x1234, flags: FLAG_RD, counts: [1, 0, 0, 0], qname, qtype, qclass: CLASS_IN, tail: Vec::new() }
    }

    /// The query with an OPT record after what it has.
    pub fn edns(mut self, opt: &Opt) -> Self {
        self.counts[3] += 1;
        self.tail.extend(opt.octets());
        self
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        for word in [self.id, self.flags].iter().chain(&self.counts) {
            out.extend(word.to_be_bytes());
        }
        out.extend(&self.qname);
        out.extend(self.qtype.to_be_bytes());
        out.extend(self.qclass.to_be_bytes());
        out.extend(&self.tail);
        out
    }
}

/// An OPT record (RFC 6891 §6.1.2).
#[derive(Clone)]
pub struct Opt {
    pub owner: Vec<u8>,
    pub udp_size: u16,
    pub ext_rcode: u8,
    pub version: u8,
    pub flags: u16,
    pub options: Vec<u8>,
    /// RDLENGTH, if it is to differ from the length of the options.
    pub rdlen: Option<u16>,
}

impl Opt {
    pub fn new(udp_size: u16) -> Self {
        Self { owner: vec![0], udp_size, ext_rcode: 0, version: 0, flags: 0, options: Vec::new(), rdlen: None }
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut out = self.owner.clone();
        out.extend(TYPE_OPT.to_be_bytes());
        out.extend(self.udp_size.to_be_bytes());
        out.extend([self.ext_rcode, self.version]);
        out.extend(self.flags.to_be_bytes());
        out.extend(self.rdlen.unwrap_or(self.options.len() as u16).to_be_bytes());
        out.extend(&self.options);
        out
    }
}

/// Option codes (RFC 7873, RFC 7830).
pub const OPTION_COOKIE: u16 = 10;
pub const OPTION_PADDING: u16 = 12;

/// An EDNS option.
pub fn option(code: u16, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
}

/// A client cookie as dig sends it (RFC 7873 §4).
pub const COOKIE: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// A UDP datagram in an Ethernet frame.
#[derive(Clone)]
pub struct Packet {
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    /// TPID and TCI of each VLAN tag, the outermost first.
    pub tags: Vec<(u16, u16)>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    pub payload: Vec<u8>,
    /// TOS of IPv4, traffic class of IPv6.
    pub tos: u8,
    /// Flags and fragment offset of IPv4.
    pub frag: u16,
    /// IPv4 options, a multiple of four octets.
    pub ip_options: Vec<u8>,
    /// IPv6 extension headers: number and octets of each. The first octet is replaced by the number of the next header.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Octets after the IP packet.
    pub padding: usize,
    /// Lengths and checksum, if they are to differ from the correct ones.
    pub ip_len: Option<u16>,
    pub udp_len: Option<u16>,
    pub udp_checksum: Option<u16>,
}

impl Packet {
    pub fn v4(query: &Query) -> Self {
        Self::between("192.0.2.7", "192.0.2.53", query)
    }

    pub fn v6(query: &Query) -> Self {
        Self::between("2001:db8::7", "2001:db8::53", query)
    }

    pub fn between(src: &str, dst: &str, query: &Query) -> Self {
        Self {
            dst_mac: [2, 0, 0, 0, 0, 0x53],
            src_mac: [2, 0, 0, 0, 0, 7],
            tags: Vec::new(),
            src: src.parse().expect("an address"),
            dst: dst.parse().expect("an address"),
            sport: 40_001,
            dport: 53,
            payload: query.octets(),
            tos: 0,
            frag: 0x4000,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            padding: 0,
            ip_len: None,
            udp_len: None,
            udp_checksum: None,
        }
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2048);
        out.extend(self.dst_mac);
        out.extend(self.src_mac);
        for (tpid, tci) in &self.tags {
            out.extend(tpid.to_be_bytes());
            out.extend(tci.to_be_bytes());
        }
        out.extend(if self.src.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        out.extend(self.ip());
        out.resize(out.len() + self.padding, 0xee);
        out
    }

    /// The IP packet without the Ethernet header.
    pub fn ip(&self) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets()),
            _ => panic!("addresses of different families"),
        }
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let head_len = IPV4 + self.ip_options.len();
        let len = self.ip_len.unwrap_or((head_len + UDP + self.payload.len()) as u16);
        let mut out = vec![0x40 | (head_len / 4) as u8, self.tos];
        out.extend(len.to_be_bytes());
        out.extend([0xab, 0xcd]);
        out.extend(self.frag.to_be_bytes());
        out.extend([37, 17, 0, 0]);
        out.extend(src);
        out.extend(dst);
        out.extend(&self.ip_options);
        let sum = !sum(&[&out]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend(self.udp(&[src, dst].concat()));
        out
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let extensions: usize = self.extensions.iter().map(|e| e.1.len()).sum();
        let len = self.ip_len.unwrap_or((extensions + UDP + self.payload.len()) as u16);
        let mut out = vec![0x60 | self.tos >> 4, self.tos << 4 | 0xb, 0xad, 0xbe];
        out.extend(len.to_be_bytes());
        out.extend([17, 37]);
        out.extend(src);
        out.extend(dst);
        let mut next = 6;
        for (number, octets) in &self.extensions {
            out[next] = *number;
            next = out.len();
            out.extend(octets);
            out[next] = 17;
        }
        out.extend(self.udp(&[src, dst].concat()));
        out
    }

    fn udp(&self, addresses: &[u8]) -> Vec<u8> {
        let len = self.udp_len.unwrap_or((UDP + self.payload.len()) as u16).to_be_bytes();
        let mut out = [self.sport.to_be_bytes(), self.dport.to_be_bytes(), len, [0, 0]].concat();
        out.extend(&self.payload);
        let sum = match !sum(&[addresses, &[0, 17], &len, &out]) {
            0 => 0xffff,
            sum => sum,
        };
        out[6..8].copy_from_slice(&self.udp_checksum.unwrap_or(sum).to_be_bytes());
        out
    }
}

/// One's complement sum of several parts, each of which counts as starting at an even offset (RFC 1071).
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for word in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A dotted name in wire format, in the case in which it is written.
pub fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|l| !l.is_empty()) {
        assert!(label.len() < 64, "{label}");
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

/// Octets as hexadecimal text.
pub fn hex(octets: &[u8]) -> String {
    octets
        .chunks(16)
        .enumerate()
        .map(|(i, line)| format!("{:04x}  {}\n", i * 16, line.iter().map(|o| format!("{o:02x} ")).collect::<String>()))
        .collect()
}
