//! What the kernel gets to know of a name: its rendered answers, by type, and what holds below it.

use std::sync::Arc;

/// In [`Node::types`]: every type that is not listed.
pub const ANY_TYPE: u16 = 0;

/// Which of the two sets of names a node belongs to. Servers that may be answered for (`DnsServers`), and
/// whether absence can be trusted, are kept for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ZoneId {
    /// Static records, from the domain file.
    Static = 0,
    /// The cluster's zone, from the Kubernetes API.
    Cluster = 1,
}

/// How an answer is counted, and with it its rcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// NOERROR with records.
    Answer,
    /// NOERROR without records: the name exists, the type doesn't (RFC 2308 §2.2).
    Nodata,
    /// NXDOMAIN (RFC 2308 §2.1).
    Nxdomain,
}

/// Records of equal size which may be rotated: the last `count` records of the answer's bytes, of `stride` octets each. The stride
/// is even, so that rotating leaves the checksum as it is; and no name points into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rotation {
    /// Octets of each record.
    pub stride: u16,
    /// How many records.
    pub count: u16,
}

/// Wire bytes that follow the question, in any message to whose name the node belongs. Names in them may point to
/// the question's name (0xC00C). Where the node is kept under one owner name only they may point anywhere before them:
/// everything is where it was rendered, but for the records that change places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answer {
    /// How it is counted, and its rcode.
    pub kind: Kind,
    /// Records in the answer, authority and additional section (an OPT not counted).
    pub counts: [u16; 3],
    /// Records that may change places.
    pub rotation: Option<Rotation>,
    /// The records, without an OPT.
    pub bytes: Box<[u8]>,
}

/// What a question for one type gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// These bytes.
    Answer(Answer),
    /// The packet goes on to the DNS server.
    Pass,
}

/// One name, or what many names share (`fallback`, `child`, `deep`). A type is looked for in `types`, then in the
/// fallback's; where neither has it, the packet passes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// The set of names that it belongs to.
    pub zone: ZoneId,
    /// What holds back its negative answers besides the gate of the zone: a gate for changes that wait, by number. 0: nothing does.
    pub gate: u8,
    /// Verdicts by type (RFC 1035 §3.2.2 TYPE), [`ANY_TYPE`] for all others; each type once.
    pub types: Vec<(u16, Verdict)>,
    /// Where types that are not listed are looked for; it has no fallback of its own.
    pub fallback: Option<Arc<Node>>,
    /// Answers for names one label below this one which have no node of their own. None: they pass.
    pub child: Option<Arc<Node>>,
    /// Answers for names two or more labels below, where no name in between has a node, nor is a wildcard's, `*` and this one.
    /// None: they pass.
    pub deep: Option<Arc<Node>>,
}

impl Node {
    /// A name that exists but is left to the DNS server, and with it all below it.
    #[must_use]
    pub const fn pass(zone: ZoneId) -> Self {
        Self { zone, gate: 0, types: Vec::new(), fallback: None, child: None, deep: None }
    }
}
