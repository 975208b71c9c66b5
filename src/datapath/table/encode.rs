//! Encodes nodes to the bytes that programs read (`struct edns_node` with its types, name and answers), and decodes them.

use crate::datapath::abi::{ANSWER_MAX, NODE_MAX, TYPES_MAX, edns_answer, edns_node, edns_type, octets_of, read_at};
use crate::datapath::skel::types::edns_outcome;
use crate::zone::name::Name;
use crate::zone::node::{Answer, AnswerKind, Node, Verdict};

/// Header flags of every answer: QR and AA (RFC 1035 §4.1.1).
const QR_AA: u16 = 0x8400;
const RCODE_NXDOMAIN: u16 = 3;
/// Alignment of names and answers in a node, in bytes.
const ALIGN: usize = 8;

/// A node's refs of shared nodes; 0 means no node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refs {
    pub fallback: u32,
    pub child: u32,
    pub deep: u32,
}

impl Refs {
    /// Whether the node has a child or deep node, so that programs take it as a closest encloser.
    pub(super) const fn is_encloser(self) -> bool {
        self.child | self.deep != 0
    }
}

/// Why a node can't be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The name has more types than a node can list.
    #[error("{0} types at one name; at most {TYPES_MAX} are possible")]
    Types(usize),
}

/// Encodes a node. `name` is None for shared nodes.
pub(super) fn encode(name: Option<&Name>, node: &Node, refs: Refs) -> Result<Vec<u8>, EncodeError> {
    if node.types.len() > TYPES_MAX {
        return Err(EncodeError::Types(node.types.len()));
    }
    let wire = name.map_or(&[][..], Name::wire);
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(octets_of(&edns_node {
        name_len: wire.len() as u8,
        zone: node.zone as u8,
        gate: node.gate,
        n_types: node.types.len() as u8,
        fallback: refs.fallback,
        child: refs.child,
        deep: refs.deep,
    }));
    let types_at = out.len();
    out.resize(types_at + node.types.len() * size_of::<edns_type>(), 0);
    pad(&mut out);
    out.extend_from_slice(wire);
    pad(&mut out);
    for (i, (qtype, verdict)) in node.types.iter().enumerate() {
        let mut entry = edns_type { qtype: qtype.to_be(), answer: 0 };
        if let Verdict::Answer(answer) = verdict
            && is_sendable(answer)
            && out.len() < NODE_MAX
        {
            entry.answer = (out.len() / ALIGN) as u16;
            push_answer(&mut out, answer);
            pad(&mut out);
        }
        let at = types_at + i * size_of::<edns_type>();
        out[at..at + size_of::<edns_type>()].copy_from_slice(octets_of(&entry));
    }
    Ok(out)
}

/// The length in bytes of a node that [`encode`] accepts.
pub(super) fn encoded_len(name: &Name, node: &Node) -> usize {
    let types = node.types.len() * size_of::<edns_type>();
    let named = size_of::<edns_node>() + types.next_multiple_of(ALIGN) + name.wire().len().next_multiple_of(ALIGN);
    node.types.iter().fold(named, |at, (_, verdict)| match verdict {
        Verdict::Answer(answer) if is_sendable(answer) && at < NODE_MAX => {
            at + size_of::<edns_answer>() + answer.bytes.len().next_multiple_of(ALIGN)
        }
        _ => at,
    })
}

/// Whether an answer has 1 to [`ANSWER_MAX`] octets. Others are encoded as "pass".
fn is_sendable(answer: &Answer) -> bool {
    (1..=ANSWER_MAX).contains(&answer.bytes.len())
}

fn push_answer(out: &mut Vec<u8>, answer: &Answer) {
    let (outcome, rcode) = match answer.kind {
        AnswerKind::Answer => (edns_outcome::EDNS_ANSWERED, 0),
        AnswerKind::Nodata => (edns_outcome::EDNS_NODATA, 0),
        AnswerKind::Nxdomain => (edns_outcome::EDNS_NXDOMAIN, RCODE_NXDOMAIN),
    };
    let len = answer.bytes.len();
    // An odd stride would swap bytes of the checksum.
    let rotation = answer.rotation.filter(|r| {
        usize::from(r.stride) * usize::from(r.count) <= len && r.stride % 2 == 0 && u8::try_from(r.count).is_ok()
    });
    out.extend_from_slice(octets_of(&edns_answer {
        flags: (QR_AA | rcode).to_be(),
        count: answer.counts.map(u16::to_be),
        len: len as u16,
        csum: checksum(&answer.bytes),
        rotate_stride: rotation.map_or(0, |r| r.stride),
        rotate_count: rotation.map_or(0, |r| r.count as u8),
        outcome: outcome.0 as u8,
    }));
    out.extend_from_slice(&answer.bytes);
}

/// The one's complement sum of 16-bit words in memory order (RFC 1071), padded with a zero byte.
fn checksum(octets: &[u8]) -> u16 {
    let mut sum: u32 = octets.chunks(2).map(|w| u32::from(u16::from_ne_bytes([w[0], *w.get(1).unwrap_or(&0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// A view of an encoded node.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    octets: &'a [u8],
    head: edns_node,
}

impl<'a> Stored<'a> {
    /// The node at the start of `octets`, which may be longer than the node.
    pub(super) fn new(octets: &'a [u8]) -> Self {
        Self { octets, head: read_at(octets, 0) }
    }

    /// The node at `start`. Never reads past the node: another thread may be writing the next unit.
    ///
    /// # Safety
    /// A node starts at `start` and does not change during `'a`.
    pub(super) unsafe fn read(start: *const u8) -> Self {
        // SAFETY: each length comes from a header that was read before, so it is within the node.
        let octets = |len: usize| unsafe { std::slice::from_raw_parts(start, len) };
        let head = Self::new(octets(size_of::<edns_node>()));
        let mut end = (head.name_at() + usize::from(head.head.name_len)).next_multiple_of(ALIGN);
        let types = octets(head.name_at());
        for i in 0..usize::from(head.head.n_types) {
            let entry: edns_type = read_at(types, size_of::<edns_node>() + i * size_of::<edns_type>());
            let at = usize::from(entry.answer) * ALIGN;
            if at != 0 {
                let answer = StoredAnswer::new(&octets(at + size_of::<edns_answer>())[at..]);
                end = end.max(at + answer.size());
            }
        }
        Self { octets: octets(end), head: head.head }
    }

    pub(super) const fn refs(&self) -> Refs {
        Refs { fallback: self.head.fallback, child: self.head.child, deep: self.head.deep }
    }

    /// Whether `octets` are the same node except for its child and deep refs.
    pub(super) fn differs_in_encloser_refs(&self, octets: &[u8]) -> bool {
        let mut head: edns_node = read_at(octets, 0);
        (head.child, head.deep) = (self.head.child, self.head.deep);
        let (own, rest) = (self.octets(), size_of::<edns_node>());
        own.len() == octets.len() && own[..rest] == *octets_of(&head) && own[rest..] == octets[rest..]
    }

    pub(super) fn name(&self) -> Option<Name> {
        Name::from_wire(self.wire())
    }

    /// The name in wire format, in lower case; empty for a shared node.
    pub(super) fn wire(&self) -> &'a [u8] {
        let at = self.name_at();
        &self.octets[at..at + usize::from(self.head.name_len)]
    }

    fn name_at(&self) -> usize {
        size_of::<edns_node>() + (usize::from(self.head.n_types) * size_of::<edns_type>()).next_multiple_of(ALIGN)
    }

    /// The listed types with their answers; None if queries for the type pass.
    pub(super) fn types(&self) -> impl Iterator<Item = (u16, Option<StoredAnswer<'a>>)> + use<'a> {
        let octets = self.octets;
        (0..usize::from(self.head.n_types)).map(move |i| {
            let entry: edns_type = read_at(octets, size_of::<edns_node>() + i * size_of::<edns_type>());
            let at = usize::from(entry.answer) * ALIGN;
            (u16::from_be(entry.qtype), (at != 0).then(|| StoredAnswer::new(&octets[at..])))
        })
    }

    /// The node's length in bytes.
    pub(super) fn len(&self) -> usize {
        let name_end = (self.name_at() + usize::from(self.head.name_len)).next_multiple_of(ALIGN);
        self.types().filter_map(|(_, a)| a).map(|a| a.end(self.octets)).fold(name_end, usize::max)
    }

    pub(super) fn octets(&self) -> &'a [u8] {
        &self.octets[..self.len()]
    }
}

/// A view of an answer in an encoded node.
#[derive(Clone, Copy)]
pub(super) struct StoredAnswer<'a> {
    octets: &'a [u8],
    head: edns_answer,
}

impl<'a> StoredAnswer<'a> {
    fn new(octets: &'a [u8]) -> Self {
        Self { octets, head: read_at(octets, 0) }
    }

    /// Numbers of records in the answer, authority and additional section.
    pub(super) fn counts(&self) -> [u16; 3] {
        self.head.count.map(u16::from_be)
    }

    /// The records in wire format.
    pub(super) fn bytes(&self) -> &'a [u8] {
        let at = size_of::<edns_answer>();
        &self.octets[at..at + usize::from(self.head.len)]
    }

    /// The offset of the answer's end in `node`, the slice that the answer was taken from.
    fn end(&self, node: &[u8]) -> usize {
        node.len() - self.octets.len() + self.size()
    }

    /// The length in bytes, with padding.
    fn size(&self) -> usize {
        (size_of::<edns_answer>() + usize::from(self.head.len)).next_multiple_of(ALIGN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::node::{Rotation, ZoneId};

    fn answer(octets: &[u8], rotation: Option<Rotation>) -> Verdict {
        Verdict::Answer(Answer { kind: AnswerKind::Answer, counts: [1, 0, 0], rotation, bytes: octets.into() })
    }

    #[test]
    fn a_node_is_decoded_as_encoded() {
        let node = Node {
            types: vec![(1, answer(b"0123456789abcdef", None)), (28, answer(b"xyz", None)), (16, Verdict::Pass)],
            ..Node::pass(ZoneId::Cluster)
        };
        let name = Name::parse("a.example").unwrap();
        let refs = Refs { fallback: 1, child: 2, deep: 3 };
        let mut octets = encode(Some(&name), &node, refs).unwrap();
        let len = octets.len();
        assert_eq!(encoded_len(&name, &node), len);
        octets.resize(len + 100, 0xff);
        let stored = Stored::new(&octets);
        assert_eq!(stored.name().as_ref(), Some(&name));
        assert_eq!(stored.refs(), refs);
        assert_eq!(stored.len(), len);
        let types: Vec<_> = stored.types().map(|(t, a)| (t, a.map(|a| a.bytes().to_vec()))).collect();
        assert_eq!(types, [(1, Some(b"0123456789abcdef".to_vec())), (28, Some(b"xyz".to_vec())), (16, None)]);
    }

    #[test]
    fn only_complete_records_of_even_size_rotate() {
        let rotated = |len: usize, stride, count| {
            let node = Node {
                types: vec![(1, answer(&vec![0; len], Some(Rotation { stride, count })))],
                ..Node::pass(ZoneId::Static)
            };
            let octets = encode(None, &node, Refs::default()).unwrap();
            let (_, answer) = Stored::new(&octets).types().next().unwrap();
            answer.unwrap().head.rotate_count
        };
        assert_eq!(rotated(32, 16, 2), 2);
        assert_eq!(rotated(34, 16, 2), 2);
        assert_eq!(rotated(31, 16, 2), 0);
        assert_eq!(rotated(30, 15, 2), 0);
    }

    #[test]
    fn answers_that_fit_no_message_pass() {
        let node = Node {
            types: vec![(1, answer(&[0; ANSWER_MAX + 1], None)), (28, answer(&[], None))],
            ..Node::pass(ZoneId::Static)
        };
        let octets = encode(None, &node, Refs::default()).unwrap();
        assert!(Stored::new(&octets).types().all(|(_, a)| a.is_none()));
        let many = Node { types: vec![(1, Verdict::Pass); TYPES_MAX + 1], ..Node::pass(ZoneId::Static) };
        assert_eq!(encode(None, &many, Refs::default()), Err(EncodeError::Types(TYPES_MAX + 1)));
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), u16::from_be(0xddf2));
        assert_eq!(checksum(&[1]), u16::from_ne_bytes([1, 0]));
    }
}
