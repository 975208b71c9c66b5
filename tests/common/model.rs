//! A zone of which the right answers are known: its nodes in the maps, and in the reference lookup.

use std::net::IpAddr;

use edns::datapath::Table;
use edns::zone::lookup::Nodes;
use edns::zone::name::Name;
use edns::zone::node::{Answer, AnswerKind, Node, Rotation, Verdict, ZoneId};

use super::decode::{Asked, Record, Reply, message};
use super::packet::{CLASS_IN, Opt, TYPE_A, TYPE_AAAA, TYPE_SOA, wire};

/// A compression pointer to the question's name.
pub const OWNER: [u8; 2] = [0xc0, 0x0c];

/// A record in wire format.
pub fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(rtype.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((rdata.len() as u16).to_be_bytes());
    out.extend(rdata);
    out
}

/// An answer of addresses of one family, rotated.
pub fn addresses<A: Into<IpAddr> + Copy>(of: &[A], ttl: u32) -> Answer {
    let records: Vec<_> = of
        .iter()
        .map(|a| match (*a).into() {
            IpAddr::V4(a) => record(&OWNER, TYPE_A, ttl, &a.octets()),
            IpAddr::V6(a) => record(&OWNER, TYPE_AAAA, ttl, &a.octets()),
        })
        .collect();
    let rotation = (of.len() > 1).then(|| Rotation { stride: records[0].len() as u16, count: of.len() as u16 });
    Answer { kind: AnswerKind::Answer, counts: [of.len() as u16, 0, 0], rotation, bytes: records.concat().into() }
}

/// A negative answer, NODATA or NXDOMAIN, with the SOA of `zone`: a name in wire format or a pointer to one.
pub fn absence(kind: AnswerKind, zone: &[u8]) -> Answer {
    let mut rdata = wire("ns.dns.example");
    rdata.extend(wire("hostmaster.example"));
    for number in [2_u32, 7200, 1800, 86400, 30] {
        rdata.extend(number.to_be_bytes());
    }
    Answer { kind, counts: [0, 1, 0], rotation: None, bytes: record(zone, TYPE_SOA, 30, &rdata).into() }
}

/// A node with these types and nothing below it.
pub fn node(types: Vec<(u16, Answer)>) -> Node {
    let types = types.into_iter().map(|(t, a)| (t, Verdict::Answer(a))).collect();
    Node { types, ..Node::pass(ZoneId::Static) }
}

/// Nodes in the maps, and the reference lookup over the same nodes.
#[derive(Default)]
pub struct Model(Nodes);

impl Model {
    /// Adds a name to the maps and to the model.
    pub fn put(&mut self, table: &mut Table, name: &str, node: Node) {
        let name = Name::parse(name).unwrap_or_else(|e| panic!("{name} {e}"));
        table.put(&name, &node).unwrap_or_else(|e| panic!("{name}: {e}"));
        self.0.put(name, node);
    }

    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.all().keys().map(Name::wire)
    }

    /// The answer to a query for a name in wire format; None if the query passes.
    pub fn answer(&self, qname: &[u8], qtype: u16) -> Option<&Answer> {
        self.0.look_up(&Name::from_wire(qname)?, qtype).ok().map(|found| found.answer)
    }

    /// The answer to a query. None if it passes: the name is unknown or the answer too large for the client.
    pub fn expected(&self, asked: &Asked<'_>) -> Option<&Answer> {
        let opt = if asked.opt.is_some() { 11 } else { 0 };
        self.answer(&asked.qname, asked.qtype)
            .filter(|a| 12 + asked.question.len() + a.bytes.len() + opt <= asked.limit())
    }
}

/// Whether a reply has the records of `answer` in each section, in any rotation where they rotate.
pub fn agrees(reply: &Reply, asked: &Asked<'_>, answer: &Answer) -> Result<(), String> {
    let rcode = if answer.kind == AnswerKind::Nxdomain { 3 } else { 0 };
    if reply.rcode != rcode {
        return Err(format!("rcode {}, not {rcode}", reply.rcode));
    }
    let wanted = sections(asked, answer);
    for (got, wanted) in reply.sections.iter().zip(&wanted) {
        let turns = if answer.rotation.is_some() { wanted.len().max(1) } else { 1 };
        let equal = |turn: usize| got.iter().eq(wanted[turn..].iter().chain(&wanted[..turn]));
        if got.len() != wanted.len() || !(0..turns).any(equal) {
            return Err(format!("records {got:x?}, not {wanted:x?}"));
        }
    }
    Ok(())
}

/// The records of an answer, parsed after this question in a message of the largest size.
fn sections(asked: &Asked<'_>, answer: &Answer) -> [Vec<Record>; 3] {
    let asked = Asked { opt: Some((1232, false)), qname: asked.qname.clone(), ..*asked };
    let [answers, authority, additional] = answer.counts;
    let flags = 0x8400 | (asked.flags & 0x0110);
    let mut dns = Vec::new();
    for word in [asked.id, flags, 1, answers, authority, additional + 1] {
        dns.extend(word.to_be_bytes());
    }
    dns.extend(asked.question);
    dns.extend(&answer.bytes);
    dns.extend(Opt::new(1232).octets());
    message(&asked, &dns).unwrap_or_else(|e| panic!("the model's own answer: {e}")).sections
}
