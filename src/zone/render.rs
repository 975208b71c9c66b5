//! Records to the octets behind a question, as hickory-proto encodes them.
//!
//! Answers are encoded behind a stand-in question and cut off there. Names that end in the question's are compressed to a
//! pointer to it, 0xC00C, which is right behind every question: the octets fit any name, a wildcard's too.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::node::{Answer, Kind, Rotation, Verdict};

/// Octets of a record without its data, where the owner is a pointer: that, type, class, TTL and length (RFC 1035 §4.1.3).
const RECORD_HEAD: u16 = 12;
/// More than the kernel sends in a message, which the datapath sees to, and less than hickory-proto cuts off.
const RECORDS_MAX: usize = 128;

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
    let record = |addr: &IpAddr| {
        let data = match *addr {
            IpAddr::V4(a) => RData::A(A(a)),
            IpAddr::V6(a) => RData::AAAA(AAAA(a)),
        };
        Record::from_rdata(question(), ttl, data)
    };
    let Some(first) = addresses.first().filter(|_| addresses.len() <= RECORDS_MAX) else { return Verdict::Pass };
    let stride = RECORD_HEAD + if first.is_ipv4() { 4 } else { 16 };
    let rotation = Rotation { stride, count: addresses.len() as u16 };
    render(Kind::Answer, addresses.iter().map(record).collect(), Vec::new(), Some(rotation))
}

/// NOERROR without records; the SOA that resolvers keep it by (RFC 2308 §3) is owned by the name itself.
#[must_use]
pub fn nodata(ttl: u32) -> Verdict {
    let rname = Name::from_ascii("nobody.invalid.").expect("a constant name");
    let soa = SOA::new(question(), rname, 1, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, ttl);
    let soa = Record::from_rdata(question(), ttl, RData::SOA(soa));
    render(Kind::Nodata, Vec::new(), vec![soa], None)
}

fn render(kind: Kind, answers: Vec<Record>, authorities: Vec<Record>, rotation: Option<Rotation>) -> Verdict {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(question(), RecordType::A));
    let counts = [answers.len() as u16, authorities.len() as u16, 0];
    let bare = message.to_vec();
    message.answers = answers;
    message.authorities = authorities;
    match (bare, message.to_vec()) {
        (Ok(bare), Ok(wire)) => Verdict::Answer(Answer { kind, counts, rotation, bytes: wire[bare.len()..].into() }),
        // What hickory-proto can't encode is for the DNS server.
        _ => Verdict::Pass,
    }
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
        assert_eq!(a.bytes.len(), usize::from(a.rotation.unwrap().stride));
        assert_eq!(a.bytes[..4], [0xc0, 0x0c, 0, 28]);
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
    fn what_no_message_holds_passes() {
        let many: Vec<IpAddr> = (0..=RECORDS_MAX).map(|i| IpAddr::from([10, 0, 0, i as u8])).collect();
        assert_eq!(addresses(&many, 30), Verdict::Pass);
        assert_eq!(addresses(&[], 30), Verdict::Pass);
    }
}
