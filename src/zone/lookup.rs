//! The reference lookup: the answer that the kernel's program takes from a set of nodes.
//!
//! [`Nodes`] holds names and nodes as the BPF maps do. [`Nodes::look_up`] does in user space what `src/bpf/lookup.h` and
//! `src/bpf/answer.h` do in the kernel, so it is the contract between the zone, which makes nodes, and the program, which
//! reads them. The zone's tests use it instead of the kernel; `tests/lookup.rs` compares it with the program.
//!
//! A lookup has two steps:
//!
//! 1. **The node.** The name's own node, else that of its closest encloser (RFC 4592 §3.3.1), the closest ancestor that has a
//!    node: its [`child`](Node::child) for a name one label below it, its [`deep`](Node::deep) for a longer one.
//! 2. **The type.** The node's [`types`](Node::types), else those of its [`fallback`](Node::fallback).
//!
//! A query for which one of them finds nothing passes to the DNS server. Gates, `DnsServers` and the size of the reply, which
//! can make an answer pass too, depend on more than nodes and are not part of this.
//!
//! # Example
//!
//! ```
//! use edns::zone::lookup::{Nodes, Pass};
//! use edns::zone::name::Name;
//! use edns::zone::node::AnswerKind;
//! use edns::zone::pass::PassNames;
//! use edns::zone::statics::{self, StaticEntry};
//!
//! const A: u16 = 1;
//! const TXT: u16 = 16;
//! const AAAA: u16 = 28;
//!
//! // *.apps.example has the address 10.0.0.5.
//! let wildcard = StaticEntry {
//!     name: Name::parse("apps.example")?,
//!     wildcard: true,
//!     addresses: vec!["10.0.0.5".parse()?],
//!     ttl: None,
//!     authoritative: false,
//! };
//! let nodes: Nodes = statics::nodes(&[wildcard], &PassNames::default(), 30).into_iter().collect();
//!
//! // web.apps.example has no node. Its closest encloser, apps.example, answers with `child`.
//! let name = Name::parse("web.apps.example")?;
//! let found = nodes.look_up(&name, A).unwrap();
//! assert!(found.answer.bytes.ends_with(&[10, 0, 0, 5]));
//! assert!(found.is_negative, "it says that web.apps.example has no node of its own");
//!
//! // The fallback has NODATA for the other family, and nothing for other types.
//! assert_eq!(nodes.look_up(&name, AAAA).unwrap().answer.kind, AnswerKind::Nodata);
//! assert_eq!(nodes.look_up(&name, TXT), Err(Pass::Qtype));
//!
//! // apps.example exists but has no records, and nothing is known of example.
//! assert_eq!(nodes.look_up(&Name::parse("apps.example")?, A), Err(Pass::Name));
//! assert_eq!(nodes.look_up(&Name::parse("example")?, A), Err(Pass::NotFound));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, HashMap};

use super::change::Change;
use super::name::Name;
use super::node::{ANY_TYPE, Answer, AnswerKind, Node, Verdict, ZoneId};

/// Ancestors that are looked up for a name without a node: `EDNS_ENCLOSERS_MAX` in `src/bpf/abi.h`.
pub(crate) const ANCESTORS_MAX: usize = 16;

/// Names and their nodes, as the BPF maps hold them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    nodes: HashMap<Name, Node>,
    /// Names by their number of labels, of names outside arpa and of names within.
    depths: [BTreeMap<usize, usize>; 2],
}

/// An answer, and what decides whether the program may give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The answer.
    pub answer: &'a Answer,
    /// The set of names whose gates and servers apply.
    pub zone: ZoneId,
    /// Whether it rests on the absence of a name or a type, so that the gate of negative answers applies: NXDOMAIN, NODATA, and
    /// every answer of `child` or `deep`.
    pub is_negative: bool,
}

/// The reason why a query passes to the DNS server. Each is a counter, `edns_queries_total{outcome="…"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// `pass_not_found`: no node holds for the name.
    NotFound,
    /// `pass_name`: the node lists no types, nor does its fallback.
    Name,
    /// `pass_qtype`: the node does not list the type, or lists it as [`Verdict::Pass`].
    Qtype,
}

impl Nodes {
    /// Gives the name this node, in place of the one that it had.
    pub fn put(&mut self, name: Name, node: Node) {
        let (tree, labels) = (tree(&name), name.label_count());
        if self.nodes.insert(name, node).is_none() {
            *self.depths[tree].entry(labels).or_default() += 1;
        }
    }

    /// Takes the name's node away, if it has one.
    pub fn remove(&mut self, name: &Name) {
        if self.nodes.remove(name).is_some()
            && let Some(count) = self.depths[tree(name)].get_mut(&name.label_count())
        {
            *count -= 1;
        }
    }

    /// Makes a change, as the table makes it in the maps.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Put(name, node) => self.put(name, node),
            Change::Remove(name) => self.remove(&name),
        }
    }

    /// The names that have a node of their own, and these nodes.
    #[must_use]
    pub const fn all(&self) -> &HashMap<Name, Node> {
        &self.nodes
    }

    /// The node that holds for a name, and whether it is the closest encloser's `child` or `deep`; None where no node holds.
    #[must_use]
    pub fn find(&self, name: &Name) -> Option<(&Node, bool)> {
        if let Some(own) = self.nodes.get(name) {
            return Some((own, false));
        }
        let labels = name.label_count();
        let deepest = self.depths[tree(name)].iter().rfind(|(_, count)| **count > 0).map_or(0, |(labels, _)| *labels);
        // The program skips ancestors that are longer than every name, and gives up after 16.
        let ancestors = name.ancestors().enumerate().skip(1.max(labels.saturating_sub(deepest))).take(ANCESTORS_MAX);
        let (depth, encloser) = ancestors.into_iter().find_map(|(depth, a)| Some((depth, self.nodes.get(&a)?)))?;
        let below = match depth {
            1 => &encloser.child,
            // The wildcard's own name exists, so the wildcard does not cover names below it (RFC 4592 §2.2.1).
            _ if name.labels().nth(depth - 1) == Some(b"*") => return None,
            _ => &encloser.deep,
        };
        Some((below.as_deref()?, true))
    }

    /// The answer that the program takes for a query of class IN.
    ///
    /// # Errors
    /// [`Pass`] where the query passes to the DNS server.
    pub fn look_up(&self, qname: &Name, qtype: u16) -> Result<Found<'_>, Pass> {
        let (node, is_below) = self.find(qname).ok_or(Pass::NotFound)?;
        let mut lists_types = false;
        for node in [Some(node), node.fallback.as_deref()].into_iter().flatten() {
            lists_types |= !node.types.is_empty();
            let Some((_, verdict)) = node.types.iter().find(|(t, _)| *t == qtype || *t == ANY_TYPE) else { continue };
            let Verdict::Answer(answer) = verdict else { return Err(Pass::Qtype) };
            return Ok(Found { answer, zone: node.zone, is_negative: is_below || answer.kind != AnswerKind::Answer });
        }
        Err(if lists_types { Pass::Qtype } else { Pass::Name })
    }
}

impl FromIterator<(Name, Node)> for Nodes {
    fn from_iter<T: IntoIterator<Item = (Name, Node)>>(iter: T) -> Self {
        let mut nodes = Self::default();
        iter.into_iter().for_each(|(name, node)| nodes.put(name, node));
        nodes
    }
}

/// The index in [`Nodes::depths`]. The program counts names in arpa apart, since those of IPv6 addresses have 34 labels.
fn tree(name: &Name) -> usize {
    usize::from(name.labels().last() == Some(b"arpa"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const A: u16 = 1;
    const TXT: u16 = 16;

    fn name(text: &str) -> Name {
        let wire: Vec<u8> =
            text.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect();
        Name::from_wire(&wire).unwrap()
    }

    /// A node whose answer to A has this one octet.
    fn node(kind: AnswerKind, octet: u8) -> Node {
        let answer = Answer { kind, counts: [1, 0, 0], rotation: None, bytes: [octet].into() };
        Node { types: vec![(A, Verdict::Answer(answer))], ..Node::pass(ZoneId::Static) }
    }

    fn encloser(child: u8, deep: u8) -> Node {
        let below = |octet| Some(Arc::new(node(AnswerKind::Answer, octet)));
        Node { child: below(child), deep: below(deep), ..Node::pass(ZoneId::Static) }
    }

    fn octet(nodes: &Nodes, text: &str) -> Result<u8, Pass> {
        nodes.look_up(&name(text), A).map(|found| found.answer.bytes[0])
    }

    #[test]
    fn the_closest_encloser_holds_for_names_without_a_node() {
        let nodes: Nodes =
            [(name("example"), encloser(1, 2)), (name("a.example"), node(AnswerKind::Answer, 3))].into_iter().collect();
        assert_eq!(octet(&nodes, "a.example"), Ok(3));
        assert_eq!(octet(&nodes, "b.example"), Ok(1));
        assert_eq!(octet(&nodes, "c.b.example"), Ok(2));
        assert_eq!(octet(&nodes, "b.a.example"), Err(Pass::NotFound), "a.example hides example");
        assert_eq!(octet(&nodes, "example"), Err(Pass::Name));
        assert_eq!(octet(&nodes, "org"), Err(Pass::NotFound));
        assert_eq!(nodes.look_up(&name("a.example"), TXT), Err(Pass::Qtype));
    }

    #[test]
    fn a_wildcard_does_not_cover_names_below_its_own() {
        let nodes: Nodes = [(name("example"), encloser(1, 2))].into_iter().collect();
        assert_eq!(octet(&nodes, "*.example"), Ok(1));
        assert_eq!(octet(&nodes, "a.*.example"), Err(Pass::NotFound));
        assert_eq!(octet(&nodes, "b.a.*.example"), Err(Pass::NotFound));
        assert_eq!(octet(&nodes, "*.a.example"), Ok(2));
    }

    #[test]
    fn types_come_from_the_node_and_then_from_its_fallback() {
        let passing = Node { types: vec![(TXT, Verdict::Pass)], ..Node::pass(ZoneId::Static) };
        let nodata = Node { zone: ZoneId::Cluster, ..node(AnswerKind::Nodata, 9) };
        let nodata = Node { types: vec![(ANY_TYPE, nodata.types[0].1.clone())], ..nodata };
        let nodes: Nodes = [(name("a"), Node { fallback: Some(Arc::new(nodata)), ..passing })].into_iter().collect();
        assert_eq!(nodes.look_up(&name("a"), TXT), Err(Pass::Qtype), "the node's own type comes first");
        let found = nodes.look_up(&name("a"), A).unwrap();
        assert_eq!((found.zone, found.is_negative), (ZoneId::Cluster, true), "the fallback's zone");
    }

    #[test]
    fn sixteen_ancestors_are_looked_up_from_the_longest_name_on() {
        let long = |labels: usize, zone: &str| format!("{}{zone}", "x.".repeat(labels));
        let mut nodes: Nodes = [(name("example"), encloser(1, 2))].into_iter().collect();
        assert_eq!(octet(&nodes, &long(100, "example")), Ok(2), "no name is longer than example");
        nodes.put(name(&long(20, "other")), node(AnswerKind::Answer, 3));
        assert_eq!(octet(&nodes, &long(16, "example")), Ok(2));
        assert_eq!(octet(&nodes, &long(17, "example")), Err(Pass::NotFound));
        nodes.remove(&name(&long(20, "other")));
        nodes.put(name(&long(33, "arpa")), node(AnswerKind::Answer, 3));
        assert_eq!(octet(&nodes, &long(17, "example")), Ok(2), "names in arpa count apart");
    }
}
