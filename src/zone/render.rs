//! Renders records to the octets that follow the question of a reply. hickory-proto encodes them.
//!
//! Each answer is encoded in a whole message and cut off behind the question. There are two forms:
//!
//! - For any question ([`addresses`], [`nodata`], [`negative`]): the question has a name of one label (`any_qname`). Owner
//!   names are a pointer to it, 0xC00C, or spelled out; no other pointer occurs.
//! - For one question ([`exact`]): names may be compressed to a pointer to any part of the message.

use std::cell::RefCell;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable, BinEncoder, NameEncoding};

use super::name;
use super::node::{Answer, AnswerKind, Rotation, Verdict};

/// No message of 1232 octets holds more records.
pub const RRS_MAX: usize = 128;
/// The highest TTL that CoreDNS gives a SOA record, in seconds.
const SOA_TTL_MAX: u32 = 300;

/// REFRESH, RETRY and EXPIRE of synthesized SOAs, in seconds: CoreDNS' values.
const SOA_REFRESH: i32 = 7200;
const SOA_RETRY: i32 = 1800;
const SOA_EXPIRE: i32 = 86400;

/// The name in the question of answers for any qname. It has one label, so that a pointer can lead only to the whole name.
fn any_qname() -> Name {
    Name::from_ascii("q.").expect("a constant name")
}

/// The A or AAAA records of any name, for addresses that are all of one family. `ttl` is in seconds.
///
/// [`Verdict::Pass`] if `addresses` is empty or too long for a message. The DNS server answers long lists over TCP.
#[must_use]
pub fn addresses(addresses: &[IpAddr], ttl: u32) -> Verdict {
    let question = any_qname();
    let record = |addr: &IpAddr| {
        let data = match *addr {
            IpAddr::V4(a) => RData::A(A(a)),
            IpAddr::V6(a) => RData::AAAA(AAAA(a)),
        };
        Some(Record::from_rdata(question.clone(), ttl, data))
    };
    if addresses.is_empty() || addresses.len() > RRS_MAX {
        return Verdict::Pass;
    }
    encode(&question, AnswerKind::Answer, [addresses.len() as u16, 0, 0], addresses.iter().map(record))
}

/// NODATA for any name, with a synthesized SOA (RFC 2308 §3) whose owner is the name itself. `ttl` is in seconds.
#[must_use]
pub fn nodata(ttl: u32) -> Verdict {
    let rname = Name::from_ascii("nobody.invalid.").expect("a constant name");
    let soa = SOA::new(any_qname(), rname, 1, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, ttl);
    let soa = Record::from_rdata(any_qname(), ttl, RData::SOA(soa));
    encode(&any_qname(), AnswerKind::Nodata, [0, 1, 0], std::iter::once(Some(soa)))
}

/// The type and data of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(&'a name::Name),
    /// PTR.
    Pointer(&'a name::Name),
    /// SRV, of priority 0 (RFC 2782).
    Srv {
        /// The name of the host.
        target: &'a name::Name,
        /// The port, in host byte order.
        port: u16,
        /// The weight among records of one priority.
        weight: u16,
    },
    /// TXT with one string.
    Text(&'a str),
    /// SOA.
    Zone(&'a Soa<'a>),
}

/// A zone's SOA, synthesized as CoreDNS does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soa<'a> {
    /// The zone's name.
    pub zone: &'a name::Name,
    /// SERIAL. Its value does not matter, since eDNS offers no zone transfer.
    pub serial: u32,
    /// MINIMUM, the TTL of negative answers (RFC 2308 §4), in seconds.
    pub ttl: u32,
}

impl Soa<'_> {
    /// The TTL of the SOA record itself, in seconds.
    fn record_ttl(&self) -> u32 {
        self.ttl.min(SOA_TTL_MAX)
    }

    fn data(&self) -> Option<RData> {
        let below = |label: &[&str]| {
            let name = label.iter().rev().try_fold(self.zone.clone(), |name, label| name.child(label));
            convert(&name.ok()?)
        };
        let (mname, rname) = (below(&["ns", "dns"])?, below(&["hostmaster"])?);
        let soa = SOA::new(mname, rname, self.serial, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, self.ttl);
        Some(RData::SOA(soa))
    }
}

/// The answer to queries for `owner`, and for no other name. A record is given by its owner, its data and its TTL in seconds.
/// Addresses at the end of the answer rotate where the encoding allows it, as they do in a DNS server's answers.
///
/// [`Verdict::Pass`] if `answers` is empty, if a message does not hold the records, or if one can't be encoded.
#[must_use]
pub fn exact(
    owner: &name::Name,
    answers: &[(&name::Name, Data<'_>, u32)],
    additionals: &[(&name::Name, Data<'_>, u32)],
) -> Verdict {
    if answers.is_empty() || answers.len() + additionals.len() > RRS_MAX {
        return Verdict::Pass;
    }
    let Some(question) = convert(owner) else { return Verdict::Pass };
    let counts = [answers.len() as u16, 0, additionals.len() as u16];
    let records = answers.iter().chain(additionals).map(|(owner, data, ttl)| record(owner, data, *ttl));
    encode(&question, AnswerKind::Answer, counts, records)
}

/// NXDOMAIN or NODATA with the zone's SOA, for any name in the zone. Its names are not compressed.
#[must_use]
pub fn negative(kind: AnswerKind, soa: &Soa<'_>) -> Verdict {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    let record = record(soa.zone, &Data::Zone(soa), soa.record_ttl());
    match record.map(|r| r.emit(&mut encoder)) {
        Some(Ok(())) => Verdict::Answer(Answer { kind, counts: [0, 1, 0], rotation: None, bytes: bytes.into() }),
        _ => Verdict::Pass,
    }
}

/// The answer to queries for the zone's SOA, at its apex.
#[must_use]
pub fn apex_soa(soa: &Soa<'_>) -> Verdict {
    exact(soa.zone, &[(soa.zone, Data::Zone(soa), soa.record_ttl())], &[])
}

fn convert(name: &name::Name) -> Option<Name> {
    Name::from_bytes(name.wire()).ok()
}

fn record(owner: &name::Name, data: &Data<'_>, ttl: u32) -> Option<Record> {
    let data = match *data {
        Data::Address(IpAddr::V4(a)) => RData::A(A(a)),
        Data::Address(IpAddr::V6(a)) => RData::AAAA(AAAA(a)),
        Data::Alias(target) => RData::CNAME(CNAME(convert(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(convert(target)?)),
        Data::Srv { target, port, weight } => RData::SRV(SRV::new(0, weight, port, convert(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.into()])),
        Data::Zone(soa) => soa.data()?,
    };
    Some(Record::from_rdata(convert(owner)?, ttl, data))
}

thread_local! {
    /// The buffer for messages, reused: much of the time that rendering a zone takes is allocation.
    static MESSAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes records behind a question for `owner`. [`Verdict::Pass`] if a record is None or hickory-proto can't encode it.
fn encode(owner: &Name, kind: AnswerKind, counts: [u16; 3], records: impl Iterator<Item = Option<Record>>) -> Verdict {
    let encoded = MESSAGE.with_borrow_mut(|message| {
        message.clear();
        let starts = behind_question(message, owner, records)?;
        // Only the records of the last section rotate.
        let last = starts.len() - usize::from(counts.into_iter().rfind(|n| *n > 0)?);
        Some((rotation(message, &starts[last..]), message[starts.first()?.at..].into()))
    });
    encoded.map_or(Verdict::Pass, |(rotation, bytes)| Verdict::Answer(Answer { kind, counts, rotation, bytes }))
}

/// The start of a record in a message.
struct RecordStart {
    /// Offset in the message, in octets.
    at: usize,
    /// Whether it is an A or AAAA record, whose data holds no name.
    is_address: bool,
}

/// The records that may rotate: the longest run at the end of address records of equal size.
fn rotation(message: &[u8], starts: &[RecordStart]) -> Option<Rotation> {
    let ends = starts.iter().skip(1).map(|s| s.at).chain([message.len()]);
    let sizes: Vec<usize> = starts.iter().zip(ends).map(|(s, end)| end - s.at).collect();
    let stride = *sizes.last()?;
    let equal = starts.iter().zip(&sizes).rev().take_while(|(s, size)| s.is_address && **size == stride);
    let count = equal.count();
    let moving = &starts[starts.len() - count..];
    // Pointers lead backwards, so only rotating records can point into rotating ones.
    let first = moving.first().filter(|_| count > 1 && stride % 2 == 0)?.at;
    let points_there = |s: &RecordStart| points_to(&message[s.at..]).is_some_and(|to| to >= first);
    (!moving.iter().any(points_there)).then_some(Rotation { stride: stride as u16, count: count as u16 })
}

/// The offset that the pointer of a compressed name leads to (RFC 1035 §4.1.4); None if the name has no pointer. `name` begins
/// with the name.
fn points_to(name: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *name.get(at)? {
            0 => return None,
            len @ 0..0xc0 => at += 1 + usize::from(len),
            high => return Some(usize::from(u16::from_be_bytes([high & 0x3f, *name.get(at + 1)?]))),
        }
    }
}

/// Encodes the records behind a question for `owner`. Returns where each begins; None if one can't be encoded.
fn behind_question(
    message: &mut Vec<u8>,
    owner: &Name,
    records: impl Iterator<Item = Option<Record>>,
) -> Option<Vec<RecordStart>> {
    let mut encoder = BinEncoder::new(message);
    // A header and, behind the name, QTYPE and QCLASS. Their values don't matter: only the records are kept.
    encoder.emit_vec(&[0; 12]).ok()?;
    owner.emit(&mut encoder).ok()?;
    encoder.emit_vec(&[0; 4]).ok()?;
    let mut starts = Vec::new();
    for record in records {
        let record = record?;
        let is_address = matches!(record.data, RData::A(_) | RData::AAAA(_));
        starts.push(RecordStart { at: encoder.len(), is_address });
        record.emit(&mut encoder).ok()?;
    }
    Some(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Answer(answer) => answer,
            Verdict::Pass => panic!("the verdict is Pass"),
        }
    }

    #[test]
    fn owners_of_addresses_point_to_the_question() {
        let a = answer(addresses(&["10.0.0.5".parse().unwrap(), "10.0.0.6".parse().unwrap()], 60));
        let record = |last| [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last];
        assert_eq!(*a.bytes, [record(5), record(6)].concat());
        assert_eq!((a.counts, a.kind), ([2, 0, 0], AnswerKind::Answer));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 2 }));
    }

    #[test]
    fn aaaa_records_have_sixteen_octets_of_data() {
        let a = answer(addresses(&["fd00::5".parse().unwrap()], 30));
        assert_eq!(a.bytes.len(), 12 + 16);
        assert_eq!(a.bytes[..4], [0xc0, 0x0c, 0, 28]);
        assert_eq!(a.rotation, None);
    }

    #[test]
    fn addresses_rotate_behind_an_alias() {
        let [owner, middle, last] = ["alias.ns", "b.other", "db.ns"].map(|n| name::Name::parse(n).unwrap());
        let mut answers = vec![(&owner, Data::Alias(&middle), 30), (&middle, Data::Alias(&last), 30)];
        answers.extend((1..=3).map(|i| (&last, Data::Address([10, 0, 0, i].into()), 30)));
        let a = answer(exact(&owner, &answers, &[]));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 3 }));
        assert_eq!(answer(exact(&owner, &answers[..3], &[])).rotation, None);
    }

    #[test]
    fn additional_addresses_rotate_if_no_name_points_into_them() {
        let owner = name::Name::parse("db.ns").unwrap();
        let targets: Vec<_> =
            (1..=8).map(|i| name::Name::parse(&format!("a{}.db.ns", "x".repeat(i))).unwrap()).collect();
        let service = |target| (&owner, Data::Srv { target, port: 80, weight: 12 }, 30);
        let address = |(i, target)| (target, Data::Address([10, 0, 0, i as u8].into()), 30);
        let services: Vec<_> = targets.iter().map(service).collect();
        let glue: Vec<_> = targets.iter().enumerate().map(address).collect();
        let a = answer(exact(&owner, &services, &glue));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 8 }));
        // Of two families only the last run of equal size rotates.
        let v6 = (&targets[0], Data::Address(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])), 30);
        let a = answer(exact(&owner, &services, &[&[v6][..], &glue].concat()));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 8 }));
        // An owner that is no target is spelled out in its first record, and the others point into that one.
        let other = name::Name::parse("other").unwrap();
        let others = [1, 2, 3].map(|i| (&other, Data::Address([10, 0, 1, i].into()), 30));
        let a = answer(exact(&owner, &services, &others));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 2 }));
        // A record that another one points into does not rotate, even if both have the same size.
        let [first, second] = ["a.b.db.ns", "cde.b.db.ns"].map(|n| name::Name::parse(n).unwrap());
        let pair = [&first, &second].map(|owner| (owner, Data::Address([10, 0, 1, 1].into()), 30));
        let a = answer(exact(&owner, &services[..1], &pair));
        assert_eq!(a.bytes[a.bytes.len() - 40..][..4], *b"\x01a\x01b");
        assert_eq!(a.bytes[a.bytes.len() - 20..][..4], *b"\x03cde");
        assert_eq!(a.rotation, None);
        // Records of the answer section don't rotate with those of the additional section.
        let a = answer(exact(&owner, &others, &glue[..1]));
        assert_eq!(a.rotation, None);
    }

    #[test]
    fn a_pointer_is_found_behind_labels() {
        assert_eq!(points_to(&[0xc1, 0x0c]), Some(0x10c));
        assert_eq!(points_to(b"\x01a\xc0\x0c\x00\x01"), Some(12));
        assert_eq!(points_to(b"\x01a\x00\xc0\x0c"), None);
        assert_eq!(points_to(b"\x02a"), None);
    }

    #[test]
    fn nodata_has_a_soa_owned_by_the_name() {
        let a = answer(nodata(30));
        assert_eq!((a.counts, a.kind), ([0, 1, 0], AnswerKind::Nodata));
        // Owner and MNAME are pointers to the question. RNAME is spelled out: what lies in front of it differs between messages.
        assert_eq!(a.bytes[..4], [0xc0, 0x0c, 0, 6]);
        assert_eq!(a.bytes[12..14], [0xc0, 0x0c]);
        assert_eq!(a.bytes[14..30], *b"\x06nobody\x07invalid\0");
        // MINIMUM, the last field, is the TTL of the negative answer (RFC 2308 §4).
        assert_eq!(a.bytes[a.bytes.len() - 4..], 30_u32.to_be_bytes());
    }

    #[test]
    fn names_in_an_answer_for_one_name_point_into_that_name() {
        let (base, owner) = (name::Name::parse("web.ns").unwrap(), name::Name::parse("_http._tcp.web.ns").unwrap());
        let service = [(&owner, Data::Srv { target: &base, port: 80, weight: 100 }, 30)];
        let a = answer(exact(&owner, &service, &[(&base, Data::Address([10, 0, 0, 1].into()), 30)]));
        assert_eq!(a.counts, [1, 0, 1]);
        assert_eq!(a.bytes[..4], [0xc0, 0x0c, 0, 33]);
        // The target is spelled out (RFC 2782). The owner of its address points to the end of the question's name.
        assert_eq!(a.bytes[18..26], *b"\x03web\x02ns\0");
        assert_eq!(a.bytes[26..30], [0xc0, 12 + 11, 0, 1]);
        assert_eq!(exact(&owner, &[], &[]), Verdict::Pass);
    }

    #[test]
    fn names_in_negative_answers_are_not_compressed() {
        let zone = name::Name::parse("z.example").unwrap();
        let a = answer(negative(AnswerKind::Nxdomain, &Soa { zone: &zone, serial: 1, ttl: 30 }));
        let fixed = 10 + 20;
        let spelled = b"\x01z\x07example\0".len() * 3 + b"\x02ns\x03dns\x0ahostmaster".len();
        assert_eq!((a.bytes.len(), a.counts, a.kind), (fixed + spelled, [0, 1, 0], AnswerKind::Nxdomain));
        assert!(a.bytes.starts_with(b"\x01z\x07example\0\0\x06\0\x01\0\0\0\x1e"));
    }

    #[test]
    fn more_records_than_a_message_holds_pass() {
        let many: Vec<IpAddr> = (0..=RRS_MAX).map(|i| IpAddr::from([10, 0, 0, i as u8])).collect();
        assert_eq!(addresses(&many, 30), Verdict::Pass);
        assert_eq!(addresses(&[], 30), Verdict::Pass);
    }
}
