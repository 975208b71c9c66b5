//! Strict parsers of queries and replies. They are written from the RFCs and share no code with the program or the daemon.
//! They decide whether a query may be answered and whether a packet is a correct reply to another one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{CLASS_IN, DNS, IPV4, IPV6, OPTION_COOKIE, OPTION_PADDING, TYPE_OPT, TYPE_SOA, UDP, sum};

const NAME_MAX: usize = 255;
const FLAG_QR: u16 = 0x8000;
const FLAG_AA: u16 = 0x0400;
/// RD and CD.
const FLAGS_COPIED: u16 = 0x0110;
/// OPCODE, QR and TC. A query has none of them set.
const FLAGS_NO_QUERY: u16 = 0xfa00;
const FLAG_DO: u16 = 0x8000;
/// The UDP payload size that replies state, and the largest message that eDNS sends (RFC 9715 §3.1).
const OUR_UDP_SIZE: u16 = 1232;
/// IPv4 packets up to this size are never fragmented (RFC 791 §3.1).
const CUT_ABOVE: usize = 576;
/// eDNS doesn't answer longer queries.
const UDP_LEN_MAX: usize = UDP + DNS + NAME_MAX + 4 + 2048;

type Checked<T> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+));
        }
    };
}

/// A UDP datagram, after `l2` octets of link-layer header.
#[derive(Debug, Clone)]
pub struct Datagram<'a> {
    pub macs: Option<([u8; 6], [u8; 6])>,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    /// TOS of IPv4; traffic class and flow label of IPv6.
    pub class: u32,
    /// Identification of IPv4, and the field of fragmentation flags and offset.
    pub fragment: (u16, u16),
    /// Length of the IP packet in octets.
    pub ip_len: usize,
    /// Error of the checksums of the IPv4 header and of the datagram, modulo 0xffff because one's complement has two zeros; 0
    /// is correct.
    pub ip_error: u16,
    pub udp_error: u16,
    pub has_checksum: bool,
    /// Whether the UDP checksum covers the pseudo-header only, to be completed by an interface.
    pub has_pseudo_checksum: bool,
    pub sport: u16,
    pub dport: u16,
    pub payload: &'a [u8],
    /// Octets after the IP packet.
    pub padding: usize,
}

impl<'a> Datagram<'a> {
    pub fn read(frame: &'a [u8], l2: usize) -> Checked<Self> {
        ensure!(frame.len() >= l2 + IPV4, "no IP header");
        let ethernet = (l2 == 14).then(|| be16(frame, 12));
        let ip = &frame[l2..];
        let macs = (l2 == 14).then(|| (array(&frame[0..6]), array(&frame[6..12])));
        match (ip[0] >> 4, ethernet) {
            (4, None | Some(0x0800)) => Self::ipv4(ip, macs),
            (6, None | Some(0x86dd)) => Self::ipv6(ip, macs),
            other => Err(format!("IP version and EtherType {other:x?}")),
        }
    }

    fn ipv4(ip: &'a [u8], macs: Option<([u8; 6], [u8; 6])>) -> Checked<Self> {
        ensure!(ip[0] == 0x45, "IP options");
        ensure!(ip[9] == 17, "protocol {}", ip[9]);
        ensure!(be16(ip, 6) & 0xbfff == 0, "fragment {:04x}", be16(ip, 6));
        let len = usize::from(be16(ip, 2));
        ensure!(len <= ip.len(), "IP length {len} of {}", ip.len());
        ensure!(len >= IPV4 + UDP, "IP length {len}");
        let (src, dst): ([u8; 4], [u8; 4]) = (array(&ip[12..16]), array(&ip[16..20]));
        let ip_error = sum(&[&ip[..IPV4]]) % 0xffff;
        let mut datagram =
            Self::udp(&ip[IPV4..len], &ip[12..20], Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into())?;
        if !datagram.has_checksum {
            datagram.udp_error = 0;
        }
        Ok(Self {
            macs,
            ttl: ip[8],
            class: ip[1].into(),
            fragment: (be16(ip, 4), be16(ip, 6)),
            ip_len: len,
            ip_error,
            padding: ip.len() - len,
            ..datagram
        })
    }

    fn ipv6(ip: &'a [u8], macs: Option<([u8; 6], [u8; 6])>) -> Checked<Self> {
        ensure!(ip.len() >= IPV6 + UDP, "no IPv6 header");
        ensure!(ip[6] == 17, "next header {}", ip[6]);
        let len = usize::from(be16(ip, 4)) + IPV6;
        ensure!(len <= ip.len(), "IP length {len} of {}", ip.len());
        ensure!(len >= IPV6 + UDP, "IP length {len}");
        let (src, dst): ([u8; 16], [u8; 16]) = (array(&ip[8..24]), array(&ip[24..40]));
        let datagram = Self::udp(&ip[IPV6..len], &ip[8..40], Ipv6Addr::from(src).into(), Ipv6Addr::from(dst).into())?;
        ensure!(datagram.has_checksum, "IPv6 without UDP checksum (RFC 8200 §8.1)");
        let class = u32::from_be_bytes(array(&ip[..4])) & 0x0fff_ffff;
        Ok(Self { macs, ttl: ip[7], class, ip_len: len, padding: ip.len() - len, ..datagram })
    }

    fn udp(udp: &'a [u8], addresses: &[u8], src: IpAddr, dst: IpAddr) -> Checked<Self> {
        ensure!(usize::from(be16(udp, 4)) == udp.len(), "UDP length {} of {}", be16(udp, 4), udp.len());
        let pseudo_header = [addresses, &[0, 17], &udp[4..6]];
        Ok(Self {
            macs: None,
            src,
            dst,
            ttl: 0,
            class: 0,
            fragment: (0, 0),
            ip_len: 0,
            ip_error: 0,
            udp_error: sum(&[&pseudo_header[..], &[udp]].concat()) % 0xffff,
            has_checksum: be16(udp, 6) != 0,
            has_pseudo_checksum: be16(udp, 6) % 0xffff == sum(&pseudo_header) % 0xffff,
            sport: be16(udp, 0),
            dport: be16(udp, 2),
            payload: &udp[UDP..],
            padding: 0,
        })
    }

    /// Whether a host would accept it: all checksums are correct.
    pub fn has_correct_checksums(&self) -> bool {
        self.ip_error == 0 && self.udp_error == 0
    }
}

/// A query that eDNS may answer.
#[derive(Debug)]
pub struct Asked<'a> {
    pub id: u16,
    pub flags: u16,
    /// QNAME, QTYPE and QCLASS as the client sent them.
    pub question: &'a [u8],
    /// QNAME in lower case.
    pub qname: Vec<u8>,
    pub qtype: u16,
    /// UDP payload size and DO flag of the query's OPT record.
    pub opt: Option<(u16, bool)>,
}

impl<'a> Asked<'a> {
    /// Parses a query. Errors say why eDNS must not answer it.
    pub fn read(datagram: &Datagram<'a>) -> Checked<Self> {
        for address in [datagram.src, datagram.dst] {
            ensure!(address_fits(address), "address {address}");
        }
        ensure!(!datagram.src.is_loopback(), "from {}", datagram.src);
        if let Some((dst, src)) = datagram.macs {
            ensure!((dst[0] | src[0]) & 1 == 0, "link-layer broadcast or multicast");
        }
        ensure!(datagram.dport == 53 && datagram.sport != 53 && datagram.sport != 0, "ports");
        ensure!(UDP + datagram.payload.len() <= UDP_LEN_MAX, "too long");
        Self::message(datagram.payload)
    }

    pub fn message(dns: &'a [u8]) -> Checked<Self> {
        ensure!(dns.len() >= DNS, "no DNS header");
        let flags = be16(dns, 2);
        ensure!(flags & FLAGS_NO_QUERY == 0, "flags {flags:04x}");
        ensure!(be16(dns, 4) == 1 && be16(dns, 6) == 0 && be16(dns, 8) == 0, "counts");
        let name_end = plain_name_end(dns, DNS)?;
        let end = name_end + 4;
        ensure!(end <= dns.len(), "no end of the question");
        let (qtype, qclass) = (be16(dns, name_end), be16(dns, name_end + 2));
        ensure!(qclass == CLASS_IN, "class {qclass}");
        ensure!(qtype != 0 && qtype != TYPE_OPT && !(128..=255).contains(&qtype), "type {qtype}");
        let rest = &dns[end..];
        let opt = match be16(dns, 10) {
            0 => {
                ensure!(rest.is_empty(), "trailing octets");
                None
            }
            1 => {
                ensure!(rest.len() >= 11 && rest[0] == 0 && be16(rest, 1) == TYPE_OPT, "not an OPT");
                ensure!(rest[5] == 0 && rest[6] == 0, "extended rcode or version");
                ensure!(usize::from(be16(rest, 9)) == rest.len() - 11, "RDLENGTH");
                ensure!(options_ask_nothing(&rest[11..]), "EDNS options");
                Some((be16(rest, 3), be16(rest, 7) & FLAG_DO != 0))
            }
            n => return Err(format!("ARCOUNT {n}")),
        };
        Ok(Self {
            id: be16(dns, 0),
            flags,
            question: &dns[DNS..end],
            qname: dns[DNS..name_end].to_ascii_lowercase(),
            qtype,
            opt,
        })
    }

    /// Size in octets of the largest message that both the client and eDNS allow.
    pub fn limit(&self) -> usize {
        usize::from(self.opt.map_or(512, |(size, _)| size).clamp(512, OUR_UDP_SIZE))
    }
}

/// Whether all options are well-formed COOKIE (RFC 7873 §4) and PADDING (RFC 7830) options.
fn options_ask_nothing(mut options: &[u8]) -> bool {
    while !options.is_empty() {
        if options.len() < 4 {
            return false;
        }
        let (code, len) = (be16(options, 0), usize::from(be16(options, 2)));
        let fits = code == OPTION_PADDING || code == OPTION_COOKIE && (len == 8 || (16..=40).contains(&len));
        if !fits || options.len() < 4 + len {
            return false;
        }
        options = &options[4 + len..];
    }
    true
}

fn address_fits(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[0] != 0 && !a.is_multicast() && !a.is_broadcast(),
        IpAddr::V6(a) => !a.is_unspecified() && !a.is_multicast() && a.to_ipv4_mapped().is_none(),
    }
}

/// A resource record. Names, also those in the RDATA of a SOA, are uncompressed and in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    pub owner: Vec<u8>,
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// A well-formed reply.
#[derive(Debug)]
pub struct Reply {
    pub rcode: u16,
    /// The answer, authority and additional sections without the OPT record.
    pub sections: [Vec<Record>; 3],
}

/// Parses the reply to `query` and checks that it differs only by what makes it a reply. Both have `l2` octets of link-layer
/// header.
pub fn reply(query: &[u8], reply: &[u8], l2: usize) -> Checked<Reply> {
    let sent = Datagram::read(query, l2).map_err(|e| format!("answered, but no query: {e}"))?;
    let asked = Asked::read(&sent).map_err(|e| format!("answered, but no query: {e}"))?;
    let got = Datagram::read(reply, l2)?;
    if let (Some(sent), Some(got)) = (sent.macs, got.macs) {
        ensure!(sent.0 == got.1 && sent.1 == got.0, "MAC addresses {got:x?}");
    }
    ensure!(sent.src == got.dst && sent.dst == got.src, "addresses {} to {}", got.src, got.dst);
    ensure!(sent.sport == got.dport && sent.dport == got.sport, "ports {} to {}", got.sport, got.dport);
    ensure!(got.ttl == 64, "TTL {}", got.ttl);
    ensure!(got.class == 0, "TOS, traffic class or flow label {:x}", got.class);
    // Small packets are never fragmented and keep the query's identification; larger ones get one of their own (RFC 6864
    // §4.1).
    let may_be_cut = got.src.is_ipv4() && got.ip_len > CUT_ABOVE;
    ensure!(!may_be_cut || got.fragment.1 == 0, "flags {:04x} on {} octets", got.fragment.1, got.ip_len);
    ensure!(may_be_cut || got.fragment == sent.fragment, "ID and flags {:x?}, not {:x?}", got.fragment, sent.fragment);
    ensure!(got.padding == 0, "{} octets behind the packet", got.padding);
    // A damaged query must not become a valid reply.
    ensure!(
        sent.ip_error == got.ip_error,
        "IPv4 header sum off by {:04x}, the query's by {:04x}",
        got.ip_error,
        sent.ip_error
    );
    // A damaged query whose checksum looks like one to be completed goes back as such.
    let is_unfinished = sent.udp_error != 0 && sent.has_pseudo_checksum && got.has_pseudo_checksum;
    ensure!(
        sent.udp_error == got.udp_error || is_unfinished,
        "UDP sum off by {:04x}, the query's by {:04x}",
        got.udp_error,
        sent.udp_error
    );
    ensure!(sent.has_checksum == got.has_checksum, "UDP sum or none: not as in the query");
    message(&asked, got.payload)
}

/// Parses the message that answers `asked`.
pub fn message(asked: &Asked<'_>, dns: &[u8]) -> Checked<Reply> {
    ensure!(dns.len() >= DNS + asked.question.len(), "{} octets", dns.len());
    ensure!(dns.len() <= asked.limit(), "{} octets for a client that takes {}", dns.len(), asked.limit());
    ensure!(be16(dns, 0) == asked.id, "ID {:04x}", be16(dns, 0));
    let (flags, rcode) = (be16(dns, 2) & 0xfff0, be16(dns, 2) & 0xf);
    ensure!(flags == FLAG_QR | FLAG_AA | (asked.flags & FLAGS_COPIED), "flags {flags:04x} on {:04x}", asked.flags);
    ensure!(be16(dns, 4) == 1, "QDCOUNT {}", be16(dns, 4));
    let question_end = DNS + asked.question.len();
    ensure!(dns[DNS..question_end] == *asked.question, "another question, or in another case");

    let mut sections: [Vec<Record>; 3] = Default::default();
    let mut opt = None;
    let mut at = question_end;
    for (i, section) in sections.iter_mut().enumerate() {
        for _ in 0..be16(dns, 6 + 2 * i) {
            let (owner, end) = name(dns, at, asked.qname.len())?;
            ensure!(end + 10 <= dns.len(), "a record ends in its head");
            let (rtype, class, len) = (be16(dns, end), be16(dns, end + 2), usize::from(be16(dns, end + 8)));
            let ttl = u32::from_be_bytes(array(&dns[end + 4..end + 8]));
            let data = end + 10;
            at = data + len;
            ensure!(at <= dns.len(), "a record of {len} octets, {} left", dns.len() - data);
            if rtype == TYPE_OPT {
                ensure!(i == 2 && opt.is_none() && owner == [0], "a second OPT, or at another place");
                opt = Some((class, ttl, len));
                continue;
            }
            ensure!(class == CLASS_IN, "class {class}");
            let rdata = if rtype == TYPE_SOA { soa(dns, data, at, asked.qname.len())? } else { dns[data..at].to_vec() };
            section.push(Record { owner, rtype, ttl, rdata });
        }
    }
    ensure!(at == dns.len(), "{} octets behind the last record", dns.len() - at);
    let wanted = asked.opt.map(|(_, dnssec_ok)| (OUR_UDP_SIZE, u32::from(dnssec_ok) << 15, 0));
    ensure!(opt == wanted, "OPT {opt:x?}, not {wanted:x?}");
    Ok(Reply { rcode, sections })
}

/// Checks MNAME and RNAME. Returns them uncompressed, followed by the five numbers.
fn soa(dns: &[u8], at: usize, end: usize, qname_len: usize) -> Checked<Vec<u8>> {
    let (mut out, at) = name(dns, at, qname_len)?;
    let (rname, at) = name(dns, at, qname_len)?;
    ensure!(at + 20 == end, "a SOA of another length");
    out.extend(rname);
    out.extend(&dns[at..end]);
    Ok(out)
}

/// The end of a name that has no compression pointers.
fn plain_name_end(dns: &[u8], start: usize) -> Checked<usize> {
    let mut at = start;
    loop {
        let len = usize::from(*dns.get(at).ok_or("a name without end")?);
        at += 1;
        ensure!(at - start <= NAME_MAX, "a name of more than {NAME_MAX} octets");
        if len == 0 {
            return Ok(at);
        }
        ensure!(len < 64, "label type {len:02x}");
        at += len;
    }
}

/// An uncompressed name in lower case, and its end. Compression pointers may only point into the question's name.
fn name(dns: &[u8], start: usize, qname_len: usize) -> Checked<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    let mut at = start;
    loop {
        let len = usize::from(*dns.get(at).ok_or("a name without end")?);
        if len >= 0xc0 {
            ensure!(at + 2 <= dns.len(), "half a pointer");
            let to = usize::from(be16(dns, at) & 0x3fff);
            let qname = DNS..DNS + qname_len;
            let mut label = qname.start;
            while label < to && label < qname.end {
                label += usize::from(dns[label]) + 1;
            }
            ensure!(qname.contains(&to) && label == to, "a pointer to {to}, no label of the question's name");
            out.extend(dns[to..qname.end].to_ascii_lowercase());
            ensure!(out.len() <= NAME_MAX, "a name of {} octets", out.len());
            return Ok((out, at + 2));
        }
        ensure!(len < 64, "label type {len:02x}");
        let end = at + 1 + len;
        ensure!(end <= dns.len(), "a label without end");
        out.extend(dns[at..end].to_ascii_lowercase());
        ensure!(out.len() <= NAME_MAX, "a name of {} octets", out.len());
        at = end;
        if len == 0 {
            return Ok((out, at));
        }
    }
}

fn be16(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

fn array<const N: usize>(octets: &[u8]) -> [u8; N] {
    octets.try_into().expect("as many octets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::packet::{Opt, Packet, Query, TYPE_A};

    /// A correct reply. `damage` changes the message; then the checksums are made correct again.
    fn checked(damage: impl FnOnce(&mut Vec<u8>)) -> Checked<Reply> {
        let query = Query::new("a.Example", TYPE_A).edns(&Opt::new(1232));
        let mut payload = query.octets();
        let opt = payload.split_off(payload.len() - 11);
        payload[2..4].copy_from_slice(&[0x85, 0]);
        payload[7] = 1;
        payload.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, 1]);
        payload.extend(opt);
        damage(&mut payload);
        let sent = Packet::v4(&query);
        let mut back = sent.clone();
        (back.src_mac, back.dst_mac, back.src, back.dst) = (sent.dst_mac, sent.src_mac, sent.dst, sent.src);
        (back.sport, back.dport, back.payload) = (53, sent.sport, payload);
        let mut frame = back.frame();
        // TTL 64 instead of the query's; the checksum changes with it.
        frame[22] = 64;
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = !sum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        reply(&sent.frame(), &frame, 14)
    }

    #[test]
    fn takes_what_is_right_and_nothing_else() {
        let right = checked(|_| ()).expect("right");
        assert_eq!(right.sections[0][0].owner, b"\x01a\x07example\0");
        let end = 12 + 11 + 4;
        for (what, at, value) in [
            ("ID", 0, 0),
            ("TC", 2, 0x87),
            ("AA", 2, 0x81),
            ("RA", 3, 0x80),
            ("QDCOUNT", 5, 0),
            ("ANCOUNT", 7, 2),
            ("NSCOUNT", 9, 1),
            ("ARCOUNT", 11, 0),
            ("0x20", 13, b'A'),
            ("pointer behind the question", end + 1, 40),
            ("pointer into a label", end + 1, 13),
            ("class", end + 5, 3),
            ("RDLENGTH", end + 11, 5),
            ("OPT's version", end + 16 + 6, 1),
            ("OPT's DO", end + 16 + 7, 0x80),
            ("OPT's size", end + 16 + 3, 0),
        ] {
            assert!(checked(|p| p[at] = value).is_err(), "{what}");
        }
        assert!(checked(|p| p.push(0)).is_err(), "trailing octets");
        assert!(checked(|p| p.truncate(end + 16)).is_err(), "no OPT");
    }
}
