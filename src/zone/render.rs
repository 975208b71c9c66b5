//! Records to the octets behind a question, as hickory-proto encodes them.
//!
//! Answers are encoded behind a question and cut off there. What fits any question is encoded behind a stand-in: names that
//! are the question's are compressed to a pointer to it, 0xC00C, and no other pointer is used. [`exact`] encodes for one
//! question only, so that any part of the message may be pointed to.

use std::cell::RefCell;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable, BinEncoder, NameEncoding};

use super::name;
use super::node::{Answer, Kind, Rotation, Verdict};

/// No message that the kernel sends holds as many records.
pub const RECORDS_MAX: usize = 128;
/// Longest time that CoreDNS lets a SOA be kept, whatever its TTL setting.
const SOA_TTL_MAX: u32 = 300;

/// Seconds that the zone's own numbers of a made-up SOA state; no secondary ever reads them. As CoreDNS has them.
const SOA_REFRESH: i32 = 7200;
const SOA_RETRY: i32 = 1800;
const SOA_EXPIRE: i32 = 86400;

/// The name of whatever question the answer is for: one label, so that nothing but the whole of it can be pointed to.
fn question() -> Name {
    Name::from_ascii("q.").expect("a constant name")
}

/// The A records of a name, or the AAAA ones, all of one family.
///
/// More than a message holds pass to the DNS server: over TCP it has room for them.
#[must_use]
pub fn addresses(addresses: &[IpAddr], ttl: u32) -> Verdict {
    let question = question();
    let record = |addr: &IpAddr| {
        let data = match *addr {
            IpAddr::V4(a) => RData::A(A(a)),
            IpAddr::V6(a) => RData::AAAA(AAAA(a)),
        };
        Some(Record::from_rdata(question.clone(), ttl, data))
    };
    if addresses.is_empty() || addresses.len() > RECORDS_MAX {
        return Verdict::Pass;
    }
    encode(&question, Kind::Answer, [addresses.len() as u16, 0, 0], addresses.iter().map(record))
}

/// NOERROR without records; the SOA that resolvers keep it by (RFC 2308 §3) is owned by the name itself.
#[must_use]
pub fn nodata(ttl: u32) -> Verdict {
    let rname = Name::from_ascii("nobody.invalid.").expect("a constant name");
    let soa = SOA::new(question(), rname, 1, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, ttl);
    let soa = Record::from_rdata(question(), ttl, RData::SOA(soa));
    encode(&question(), Kind::Nodata, [0, 1, 0], std::iter::once(Some(soa)))
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Alias(&'a name::Name),
    /// PTR.
    Pointer(&'a name::Name),
    /// SRV, of priority 0 (RFC 2782).
    Service {
        /// Where the service is.
        target: &'a name::Name,
        /// And on which port.
        port: u16,
        /// Its share among targets.
        weight: u16,
    },
    /// TXT, of one string.
    Text(&'a str),
    /// SOA of a zone; see [`Soa`].
    Zone(&'a Soa<'a>),
}

/// The SOA of a zone as CoreDNS makes it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Soa<'a> {
    /// The zone.
    pub zone: &'a name::Name,
    /// Of its content; nobody compares it, since there is no transfer.
    pub serial: u32,
    /// Seconds that a negative answer may be kept.
    pub ttl: u32,
}

impl Soa<'_> {
    /// Seconds that the record itself may be kept.
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

/// The answer to questions for `owner` and for no other name. Records are owner, data and TTL. The addresses at its end rotate
/// where they can, as a DNS server has them do.
///
/// More than a message holds pass to the DNS server.
#[must_use]
pub fn exact(
    owner: &name::Name,
    answers: &[(&name::Name, Data<'_>, u32)],
    additionals: &[(&name::Name, Data<'_>, u32)],
) -> Verdict {
    if answers.is_empty() || answers.len() + additionals.len() > RECORDS_MAX {
        return Verdict::Pass;
    }
    let Some(question) = convert(owner) else { return Verdict::Pass };
    let counts = [answers.len() as u16, 0, additionals.len() as u16];
    let records = answers.iter().chain(additionals).map(|(owner, data, ttl)| record(owner, data, *ttl));
    encode(&question, Kind::Answer, counts, records)
}

/// NXDOMAIN or NODATA with the SOA of the zone, for any question below it: no name in it is compressed.
#[must_use]
pub fn negative(kind: Kind, soa: &Soa<'_>) -> Verdict {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    let record = record(soa.zone, &Data::Zone(soa), soa.record_ttl());
    match record.map(|r| r.emit(&mut encoder)) {
        Some(Ok(())) => Verdict::Answer(Answer { kind, counts: [0, 1, 0], rotation: None, bytes: bytes.into() }),
        _ => Verdict::Pass,
    }
}

/// The zone's SOA as answer, for its apex.
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
        Data::Service { target, port, weight } => RData::SRV(SRV::new(0, weight, port, convert(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.into()])),
        Data::Zone(soa) => soa.data()?,
    };
    Some(Record::from_rdata(convert(owner)?, ttl, data))
}

thread_local! {
    /// Where answers are encoded. Rendering a zone is as much allocation as it is anything else.
    static MESSAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes records behind a question for `owner`; a record that is None can't be expressed, and passes like all that
/// hickory-proto can't encode.
fn encode(owner: &Name, kind: Kind, counts: [u16; 3], records: impl Iterator<Item = Option<Record>>) -> Verdict {
    let encoded = MESSAGE.with_borrow_mut(|message| {
        message.clear();
        let starts = behind_question(message, owner, records)?;
        // Records of one section only.
        let last = starts.len() - usize::from(counts.into_iter().rfind(|n| *n > 0)?);
        Some((rotation(message, &starts[last..]), message[starts.first()?.at..].into()))
    });
    encoded.map_or(Verdict::Pass, |(rotation, bytes)| Verdict::Answer(Answer { kind, counts, rotation, bytes }))
}

/// Where a record begins in a message, and whether it is an address, whose data holds no name.
struct Start {
    at: usize,
    is_address: bool,
}

/// The records that may change places: the last ones, as many as are addresses in as many octets each.
fn rotation(message: &[u8], starts: &[Start]) -> Option<Rotation> {
    let ends = starts.iter().skip(1).map(|s| s.at).chain([message.len()]);
    let sizes: Vec<usize> = starts.iter().zip(ends).map(|(s, end)| end - s.at).collect();
    let stride = *sizes.last()?;
    let alike = starts.iter().zip(&sizes).rev().take_while(|(s, size)| s.is_address && **size == stride);
    let count = alike.count();
    let moving = &starts[starts.len() - count..];
    // Names point to what lies before them: only these could point to one of these.
    let first = moving.first().filter(|_| count > 1 && stride % 2 == 0)?.at;
    let points_there = |s: &Start| points_to(&message[s.at..]).is_some_and(|to| to >= first);
    (!moving.iter().any(points_there)).then_some(Rotation { stride: stride as u16, count: count as u16 })
}

/// Where the pointer of a name leads that begins with these octets (RFC 1035 §4.1.4); None where it has none.
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

/// Encodes records; returns where they begin.
fn behind_question(
    message: &mut Vec<u8>,
    owner: &Name,
    records: impl Iterator<Item = Option<Record>>,
) -> Option<Vec<Start>> {
    let mut encoder = BinEncoder::new(message);
    // Header, name, type and class.
    encoder.emit_vec(&[0; 12]).ok()?;
    owner.emit(&mut encoder).ok()?;
    encoder.emit_vec(&[0; 4]).ok()?;
    let mut starts = Vec::new();
    for record in records {
        let record = record?;
        let is_address = matches!(record.data, RData::A(_) | RData::AAAA(_));
        starts.push(Start { at: encoder.len(), is_address });
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
            Verdict::Pass => panic!("it passes"),
        }
    }

    #[test]
    fn addresses_point_to_the_question() {
        let a = answer(addresses(&["10.0.0.5".parse().unwrap(), "10.0.0.6".parse().unwrap()], 60));
        let record = |last| [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last];
        assert_eq!(*a.bytes, [record(5), record(6)].concat());
        assert_eq!((a.counts, a.kind), ([2, 0, 0], Kind::Answer));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 2 }));
    }

    #[test]
    fn aaaa_records_are_as_long_as_they_say() {
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
    fn glue_rotates_that_nothing_points_into() {
        let owner = name::Name::parse("db.ns").unwrap();
        let targets: Vec<_> =
            (1..=8).map(|i| name::Name::parse(&format!("a{}.db.ns", "x".repeat(i))).unwrap()).collect();
        let service = |target| (&owner, Data::Service { target, port: 80, weight: 12 }, 30);
        let address = |(i, target)| (target, Data::Address([10, 0, 0, i as u8].into()), 30);
        let services: Vec<_> = targets.iter().map(service).collect();
        let glue: Vec<_> = targets.iter().enumerate().map(address).collect();
        let a = answer(exact(&owner, &services, &glue));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 8 }));
        // One family of two.
        let v6 = (&targets[0], Data::Address(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])), 30);
        let a = answer(exact(&owner, &services, &[&[v6][..], &glue].concat()));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 8 }));
        // An owner that is no target is spelled where it stands first, which is where the others point to.
        let other = name::Name::parse("other").unwrap();
        let others = [1, 2, 3].map(|i| (&other, Data::Address([10, 0, 1, i].into()), 30));
        let a = answer(exact(&owner, &services, &others));
        assert_eq!(a.rotation, Some(Rotation { stride: 16, count: 2 }));
        // Also where that one is as long as the one that points into it.
        let [first, second] = ["a.b.db.ns", "cde.b.db.ns"].map(|n| name::Name::parse(n).unwrap());
        let pair = [&first, &second].map(|owner| (owner, Data::Address([10, 0, 1, 1].into()), 30));
        let a = answer(exact(&owner, &services[..1], &pair));
        assert_eq!(a.bytes[a.bytes.len() - 40..][..4], *b"\x01a\x01b");
        assert_eq!(a.bytes[a.bytes.len() - 20..][..4], *b"\x03cde");
        assert_eq!(a.rotation, None);
        // The records of the answer section have no part in it.
        let a = answer(exact(&owner, &others, &glue[..1]));
        assert_eq!(a.rotation, None);
    }

    #[test]
    fn pointers_are_found_behind_labels() {
        assert_eq!(points_to(&[0xc1, 0x0c]), Some(0x10c));
        assert_eq!(points_to(b"\x01a\xc0\x0c\x00\x01"), Some(12));
        assert_eq!(points_to(b"\x01a\x00\xc0\x0c"), None);
        assert_eq!(points_to(b"\x02a"), None);
    }

    #[test]
    fn nodata_brings_a_soa_owned_by_the_name() {
        let a = answer(nodata(30));
        assert_eq!((a.counts, a.kind), ([0, 1, 0], Kind::Nodata));
        // Owner and MNAME are pointers to the question; RNAME has none into what differs from message to message.
        assert_eq!(a.bytes[..4], [0xc0, 0x0c, 0, 6]);
        assert_eq!(a.bytes[12..14], [0xc0, 0x0c]);
        assert_eq!(a.bytes[14..30], *b"\x06nobody\x07invalid\0");
        // MINIMUM, the last field, is the TTL of the negative answer (RFC 2308 §4).
        assert_eq!(a.bytes[a.bytes.len() - 4..], 30_u32.to_be_bytes());
    }

    #[test]
    fn answers_for_one_name_point_into_it() {
        let (base, owner) = (name::Name::parse("web.ns").unwrap(), name::Name::parse("_http._tcp.web.ns").unwrap());
        let service = [(&owner, Data::Service { target: &base, port: 80, weight: 100 }, 30)];
        let a = answer(exact(&owner, &service, &[(&base, Data::Address([10, 0, 0, 1].into()), 30)]));
        assert_eq!(a.counts, [1, 0, 1]);
        assert_eq!(a.bytes[..4], [0xc0, 0x0c, 0, 33]);
        // A target is spelled out (RFC 2782); the owner of its address is the end of the question's name.
        assert_eq!(a.bytes[18..26], *b"\x03web\x02ns\0");
        assert_eq!(a.bytes[26..30], [0xc0, 12 + 11, 0, 1]);
        assert_eq!(exact(&owner, &[], &[]), Verdict::Pass);
    }

    #[test]
    fn negative_answers_spell_every_name() {
        let zone = name::Name::parse("z.example").unwrap();
        let a = answer(negative(Kind::Nxdomain, &Soa { zone: &zone, serial: 1, ttl: 30 }));
        let fixed = 10 + 20;
        let spelled = b"\x01z\x07example\0".len() * 3 + b"\x02ns\x03dns\x0ahostmaster".len();
        assert_eq!((a.bytes.len(), a.counts, a.kind), (fixed + spelled, [0, 1, 0], Kind::Nxdomain));
        assert!(a.bytes.starts_with(b"\x01z\x07example\0\0\x06\0\x01\0\0\0\x1e"));
    }

    #[test]
    fn what_no_message_holds_passes() {
        let many: Vec<IpAddr> = (0..=RECORDS_MAX).map(|i| IpAddr::from([10, 0, 0, i as u8])).collect();
        assert_eq!(addresses(&many, 30), Verdict::Pass);
        assert_eq!(addresses(&[], 30), Verdict::Pass);
    }
}
