//! Nodes: the answers of a name, rendered, in the form in which the maps hold them.
//!
//! # Data model
//!
//! A [`Node`] lives in user space only while it is made: [`super::statics`] and [`super::cluster`] render it, and
//! `datapath::table::encode` writes it to the maps as a `struct edns_node` (`src/bpf/abi.h`). It stores
//!
//! - the answers of one name by type, as octets that follow the question in the reply ([`Answer`]);
//! - references to up to three nodes that many names share, each stored once: `fallback` for types that the name does not
//!   list, `child` and `deep` for names below it that have no node of their own.
//!
//! [`super::lookup`] shows how a query finds its answer in them.

use std::sync::Arc;

/// The type in [`Node::types`] that matches every query.
pub const ANY_TYPE: u16 = 0;

/// One of the two sets of names. Each has its own gates and its own servers for which the program may answer
/// (`DnsServers`). The numbers are those of `enum edns_zone` in `src/bpf/abi.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ZoneId {
    /// Static names, from domain.yaml.
    Static = 0,
    /// Names of the cluster, from the Kubernetes API.
    Cluster = 1,
}

/// The kind of an answer: its rcode, and the outcome that it is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnswerKind {
    /// NOERROR with records.
    Answer,
    /// NOERROR without records: the name exists, the type doesn't (RFC 2308 §2.2).
    Nodata,
    /// NXDOMAIN (RFC 2308 §2.1).
    Nxdomain,
}

/// Records at the end of an answer that the program rotates: the last `count` records, of `stride` octets each. The stride is
/// even, so that rotating leaves the checksum as it is, and no compressed name points into the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rotation {
    /// Octets of each record, an even number.
    pub stride: u16,
    /// The number of records, at least 2.
    pub count: u16,
}

/// Records in wire format that follow the question of a reply.
///
/// Compressed names in a node that several names share may point only to the question's name, which is at offset 12 in every
/// message (0xC00C). Those in a node of one name may point to anything in front of them except records that rotate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The rcode, and the outcome that the answer is counted as.
    pub kind: AnswerKind,
    /// ANCOUNT, NSCOUNT and ARCOUNT, the latter without an OPT.
    pub counts: [u16; 3],
    /// The records that rotate; None: the order stays.
    pub rotation: Option<Rotation>,
    /// The records of the three sections, without an OPT.
    pub bytes: Box<[u8]>,
}

/// The result for one type of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The program answers.
    Answer(Answer),
    /// The query passes to the DNS server.
    Pass,
}

/// The answers of one name, or of the many names that share it as their `fallback`, `child` or `deep`.
///
/// The type of a query is looked up in `types` and then in the types of `fallback`. If neither lists it, the query passes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// The set of names whose gates and servers apply.
    pub zone: ZoneId,
    /// The second gate for negative answers, besides that of the zone. It closes while changes of its namespaces wait. 0:
    /// none.
    pub gate: u8,
    /// Verdicts by type (TYPE of RFC 1035 §3.2.2, host byte order), each type once; [`ANY_TYPE`], in the last place, is for all
    /// others.
    pub types: Vec<(u16, Verdict)>,
    /// The node in which types are looked up that `types` does not list. It has no fallback of its own.
    pub fallback: Option<Arc<Node>>,
    /// The node of names one label below this one that have no node of their own. None: they pass.
    pub child: Option<Arc<Node>>,
    /// The node of names two or more labels below this one for which this one is the closest encloser. None: they pass. Names
    /// below the wildcard's own name, `*` one label below this one, pass in any case, because that name exists (RFC 4592
    /// §2.2.1).
    pub deep: Option<Arc<Node>>,
}

impl Node {
    /// The node of a name that passes, with all names below it that have no node.
    #[must_use]
    pub const fn pass(zone: ZoneId) -> Self {
        Self { zone, gate: 0, types: Vec::new(), fallback: None, child: None, deep: None }
    }
}
