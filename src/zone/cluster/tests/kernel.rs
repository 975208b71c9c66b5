//! How the kernel answers: the rules of lookup.h, answer.h and reply.h, on a map of nodes; replies decoded by hickory-proto.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::coredns::Reply;
use super::*;
use crate::zone::node::{ANY_TYPE, Answer, Kind, Verdict};

/// What the maps hold.
#[derive(Default, Clone)]
pub struct Maps(pub HashMap<Name, Node>);

impl Maps {
    pub fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut maps = Self::default();
        changes.into_iter().for_each(|c| maps.apply(c));
        maps
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put(name, node) => {
                // EDNS_TYPES_MAX
                assert!(node.types.len() <= 8, "{name}");
                self.0.insert(name, node);
            }
            Change::Remove(name) => {
                self.0.remove(&name);
            }
        }
    }

    /// `name_search`: what a name is answered from.
    pub fn find(&self, name: &Name) -> Option<&Node> {
        let (depth, node) = name.ancestors().enumerate().find_map(|(i, a)| self.0.get(&a).map(|n| (i, n)))?;
        match depth {
            0 => Some(node),
            1 => node.child.as_deref(),
            _ => node.deep.as_deref(),
        }
    }

    /// `answer_find`
    pub fn verdict(&self, name: &Name, qtype: u16) -> Option<&Answer> {
        let node = self.find(name)?;
        let types = node.types.iter().chain(node.fallback.iter().flat_map(|f| &f.types));
        match types.into_iter().find(|(t, _)| *t == qtype || *t == ANY_TYPE)? {
            (_, Verdict::Answer(answer)) => Some(answer),
            (_, Verdict::Pass) => None,
        }
    }

    /// The reply to a question; None where it passes.
    pub fn ask(&self, name: &str, qtype: u16) -> Option<Reply> {
        let name = Name::parse(name).unwrap();
        self.verdict(&name, qtype).map(|answer| decode(&name, qtype, answer))
    }
}

fn decode(name: &Name, qtype: u16, answer: &Answer) -> Reply {
    let mut query = Message::new(1, MessageType::Response, OpCode::Query);
    let qname = hickory_proto::rr::Name::from_labels(name.labels()).unwrap();
    query.add_query(Query::query(qname, RecordType::from(qtype)));
    let mut wire = query.to_vec().unwrap();
    wire[2..4].copy_from_slice(&(0x8400 | if answer.kind == Kind::Nxdomain { 3u16 } else { 0 }).to_be_bytes());
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
    assert_eq!(answer.kind == Kind::Answer, !message.answers.is_empty());
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
