//! The kernel's replies: answers of the reference lookup, put behind the question as `reply.h` does and decoded by
//! hickory-proto.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::coredns::Reply;
use super::*;
use crate::zone::lookup::Nodes;
use crate::zone::node::{Answer, AnswerKind};

/// The nodes in the maps.
#[derive(Default, Clone)]
pub struct Maps(Nodes);

impl Maps {
    pub fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut maps = Self::default();
        changes.into_iter().for_each(|c| maps.apply(c));
        maps
    }

    pub fn apply(&mut self, change: Change) {
        if let Change::Put(name, node) = &change {
            // EDNS_TYPES_MAX
            assert!(node.types.len() <= 8, "{name}");
        }
        self.0.apply(change);
    }

    /// The names that have a node, and these nodes.
    pub const fn all(&self) -> &HashMap<Name, Node> {
        self.0.all()
    }

    /// The node that holds for a name.
    pub fn find(&self, name: &Name) -> Option<&Node> {
        self.0.find(name).map(|(node, _)| node)
    }

    /// The answer to a query; None where it passes.
    pub fn answer(&self, name: &Name, qtype: u16) -> Option<&Answer> {
        self.0.look_up(name, qtype).ok().map(|found| found.answer)
    }

    /// The reply to a query; None where it passes.
    pub fn ask(&self, name: &str, qtype: u16) -> Option<Reply> {
        let name = Name::parse(name).unwrap();
        self.answer(&name, qtype).map(|answer| decode(&name, qtype, answer))
    }
}

fn decode(name: &Name, qtype: u16, answer: &Answer) -> Reply {
    let mut query = Message::new(1, MessageType::Response, OpCode::Query);
    let qname = hickory_proto::rr::Name::from_labels(name.labels()).unwrap();
    query.add_query(Query::query(qname, RecordType::from(qtype)));
    let mut wire = query.to_vec().unwrap();
    wire[2..4].copy_from_slice(&(0x8400 | if answer.kind == AnswerKind::Nxdomain { 3u16 } else { 0 }).to_be_bytes());
    for (i, count) in answer.counts.iter().enumerate() {
        wire[6 + 2 * i..8 + 2 * i].copy_from_slice(&count.to_be_bytes());
    }
    wire.extend_from_slice(&answer.bytes);
    let mut decoder = BinDecoder::new(&wire);
    let message = Message::read(&mut decoder).unwrap();
    assert!(decoder.is_empty(), "{name}: octets behind the records");
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let set = |i: usize| {
        let records: Vec<String> = sections[i].iter().map(text).collect();
        assert_eq!(records.len(), usize::from(answer.counts[i]));
        let set: std::collections::BTreeSet<String> = records.iter().cloned().collect();
        assert_eq!(set.len(), records.len(), "{name} has a record twice: {records:?}");
        set
    };
    assert_eq!(answer.kind == AnswerKind::Answer, !message.answers.is_empty());
    let rcode = if message.response_code == ResponseCode::NXDomain { 3 } else { 0 };
    Reply { rcode, answers: set(0), authorities: set(1), additionals: set(2) }
}

fn text(record: &Record) -> String {
    let data = match &record.data {
        RData::A(a) => a.0.to_string(),
        RData::AAAA(a) => a.0.to_string(),
        RData::CNAME(name) => name.0.to_string(),
        RData::PTR(name) => name.0.to_string(),
        RData::SRV(s) => format!("{} {} {} {}", s.priority, s.weight, s.port, s.target),
        RData::SOA(s) => {
            format!("{} {} {} {} {} {} {}", s.mname, s.rname, s.serial, s.refresh, s.retry, s.expire, s.minimum)
        }
        RData::TXT(t) => t.txt_data.iter().map(|s| String::from_utf8_lossy(s)).collect(),
        other => panic!("{other:?}"),
    };
    format!("{} {} {} {data}", record.name, record.ttl, record.record_type())
}
