//! Makes nodes from the entries of domain.yaml, with wildcards as RFC 4592 defines them. `PassNames` take precedence.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::name::Name;
use super::node::{ANY_TYPE, Node, Verdict, ZoneId};
use super::pass::PassNames;
use super::render;

/// The TTLs that the configuration and domain.yaml may set, in seconds.
pub const TTL_RANGE: RangeInclusive<u32> = 1..=3600;

/// RFC 1035 §3.2.2, RFC 3596 §2.1.
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// An entry of domain.yaml: a name or a wildcard, with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEntry {
    /// The name; for a wildcard, the name behind its `*.`.
    pub name: Name,
    /// Whether the entry is the wildcard below `name`: it covers names there that do not exist.
    pub wildcard: bool,
    /// IPv4 and IPv6 addresses, in the order of the file.
    pub addresses: Vec<IpAddr>,
    /// TTL in seconds; None: that of the configuration.
    pub ttl: Option<u32>,
    /// Whether queries for types other than A and AAAA get NODATA. Otherwise they pass.
    pub authoritative: bool,
}

/// Makes the nodes of all entries and of the names in `pass`, each name once. `ttl`, in seconds, is for entries without a TTL
/// of their own.
#[must_use]
pub fn nodes(entries: &[StaticEntry], pass: &PassNames, ttl: u32) -> Vec<(Name, Node)> {
    let mut renderer = Renderer { ttl, fallbacks: HashMap::new() };
    let mut exact: HashMap<&Name, Node> = HashMap::new();
    let mut wild = HashMap::new();
    for entry in entries {
        if !entry.wildcard {
            let node = if pass.covers(&entry.name) { Node::pass(ZoneId::Static) } else { renderer.node(entry) };
            exact.insert(&entry.name, node);
        } else if !pass.covers_below(&entry.name) {
            wild.insert(&entry.name, Arc::new(renderer.node(entry)));
        }
    }

    // The existing names (RFC 4592 §2.2) that need a node: owners, and the empty non-terminals between an owner and a wildcard
    // above it, which the wildcard does not cover. Other empty non-terminals pass without a node, too.
    let mut exists: HashSet<Name> = HashSet::new();
    for owner in entries.iter().map(|e| &e.name) {
        exists.insert(owner.clone());
        if wild.is_empty() {
            continue;
        }
        let above: Vec<Name> = owner.ancestors().skip(1).collect();
        if let Some(top) = above.iter().rposition(|a| wild.contains_key(a)) {
            exists.extend(above.into_iter().take(top));
        }
    }

    let mut nodes: HashMap<Name, Node> = HashMap::with_capacity(exists.len());
    for name in &exists {
        let mut node = exact.remove(name).unwrap_or(const { Node::pass(ZoneId::Static) });
        if let Some(wildcard) = wild.get(name) {
            node.child = Some(Arc::clone(wildcard));
            node.deep = Some(Arc::clone(wildcard));
        }
        nodes.insert(name.clone(), node);
    }
    // A pass name that does not exist gets a node. The node becomes the closest encloser of names below it, so it needs the
    // wildcard's `child` and `deep`.
    let closest = |name: &Name| name.ancestors().skip(1).find(|a| exists.contains(a)).and_then(|a| wild.get(&a));
    for name in pass.names().filter(|n| !exists.contains(*n)) {
        let mut node = Node::pass(ZoneId::Static);
        if let Some(wildcard) = closest(name).filter(|_| !pass.covers_below(name)) {
            node.child = Some(Arc::clone(wildcard));
            node.deep = Some(Arc::clone(wildcard));
        }
        nodes.insert(name.clone(), node);
    }
    // The suffix itself is still covered by a wildcard above it, but names below it are not.
    for name in pass.suffixes().filter(|n| !exists.contains(*n) && !pass.covers(n)) {
        if let Some(wildcard) = closest(name) {
            nodes.insert(name.clone(), Node::clone(wildcard));
        }
    }
    nodes.into_iter().collect()
}

struct Renderer {
    ttl: u32,
    /// The node with NODATA by TTL, for A and AAAA only or, if true, for every type. Names share it, so the maps store it once.
    fallbacks: HashMap<(u32, bool), Arc<Node>>,
}

impl Renderer {
    fn node(&mut self, entry: &StaticEntry) -> Node {
        let ttl = entry.ttl.unwrap_or(self.ttl);
        let mut node = Node::pass(ZoneId::Static);
        for (qtype, is_of_family) in [(TYPE_A, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (TYPE_AAAA, IpAddr::is_ipv6)] {
            let addresses: Vec<IpAddr> = entry.addresses.iter().copied().filter(is_of_family).collect();
            if !addresses.is_empty() {
                node.types.push((qtype, render::addresses(&addresses, ttl)));
            }
        }
        node.fallback = Some(self.fallback(ttl, entry.authoritative));
        node
    }

    fn fallback(&mut self, ttl: u32, authoritative: bool) -> Arc<Node> {
        let make = || {
            let nodata: Verdict = render::nodata(ttl);
            let types = if authoritative {
                vec![(ANY_TYPE, nodata)]
            } else {
                vec![(TYPE_A, nodata.clone()), (TYPE_AAAA, nodata)]
            };
            Arc::new(Node { types, ..Node::pass(ZoneId::Static) })
        };
        Arc::clone(self.fallbacks.entry((ttl, authoritative)).or_insert_with(make))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::Nodes;
    use super::super::node::AnswerKind;
    use super::nodes as nodes_of;
    use super::*;

    fn entry(text: &str) -> StaticEntry {
        let (name, wildcard) = text.strip_prefix("*.").map_or((text, false), |n| (n, true));
        StaticEntry {
            name: Name::parse(name).unwrap(),
            wildcard,
            // The last octet identifies the entry.
            addresses: vec![IpAddr::from([10, 0, 0, text.len() as u8])],
            ttl: None,
            authoritative: false,
        }
    }

    /// The number of octets in the text of the entry that answers, 0 for NODATA; None where the query passes.
    fn ask(nodes: &[(Name, Node)], name: &str, qtype: u16) -> Option<u8> {
        ask_of(nodes, &Name::parse(name).unwrap(), qtype)
    }

    fn ask_of(nodes: &[(Name, Node)], name: &Name, qtype: u16) -> Option<u8> {
        let nodes: Nodes = nodes.iter().cloned().collect();
        let answer = nodes.look_up(name, qtype).ok()?.answer;
        if answer.kind == AnswerKind::Nodata { Some(0) } else { answer.bytes.last().copied() }
    }

    fn pass(names: &[&str]) -> PassNames {
        let mut pass = PassNames::default();
        names.iter().for_each(|n| pass.add(n).unwrap());
        pass
    }

    #[test]
    fn a_name_answers_its_family_and_gets_nodata_for_the_other() {
        let nodes = nodes(&[entry("a.example")], &PassNames::default(), 30);
        assert_eq!(ask(&nodes, "a.example", TYPE_A), Some(9));
        assert_eq!(ask(&nodes, "a.example", TYPE_AAAA), Some(0));
        assert_eq!(ask(&nodes, "a.example", 16), None);
        assert_eq!(ask(&nodes, "example", TYPE_A), None);
        assert_eq!(ask(&nodes, "b.a.example", TYPE_A), None);
    }

    #[test]
    fn authoritative_names_get_nodata_for_other_types() {
        let nodes = nodes(&[StaticEntry { authoritative: true, ..entry("a.example") }], &PassNames::default(), 30);
        assert_eq!(ask(&nodes, "a.example", 16), Some(0));
    }

    #[test]
    fn names_share_one_nodata_node() {
        let nodes = nodes(&[entry("a.example"), entry("b.example")], &PassNames::default(), 30);
        let [(_, a), (_, b)] = &nodes[..] else { panic!("two nodes") };
        assert!(Arc::ptr_eq(a.fallback.as_ref().unwrap(), b.fallback.as_ref().unwrap()));
    }

    #[test]
    fn wildcards_end_at_the_closest_encloser() {
        let nodes = nodes(&[entry("*.apps.example"), entry("x.y.apps.example")], &PassNames::default(), 30);
        let wild = Some("*.apps.example".len() as u8);
        assert_eq!(ask(&nodes, "a.apps.example", TYPE_A), wild);
        assert_eq!(ask(&nodes, "b.a.apps.example", TYPE_A), wild);
        assert_eq!(ask(&nodes, "a.apps.example", TYPE_AAAA), Some(0));
        assert_eq!(ask(&nodes, "x.y.apps.example", TYPE_A), Some(16));
        for passes in ["apps.example", "y.apps.example", "z.y.apps.example", "a.x.y.apps.example"] {
            assert_eq!(ask(&nodes, passes, TYPE_A), None, "{passes}");
        }
    }

    #[test]
    fn a_wildcard_does_not_cover_names_below_its_own_name() {
        let nodes = nodes(&[entry("*.apps.example")], &PassNames::default(), 30);
        let ask = |labels: &[&str]| {
            let wire: Vec<u8> = labels.iter().flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect();
            let name = Name::from_wire(&[&wire[..], &[0]].concat()).unwrap();
            ask_of(&nodes, &name, TYPE_A)
        };
        let wild = Some("*.apps.example".len() as u8);
        assert_eq!(ask(&["*", "apps", "example"]), wild);
        assert_eq!(ask(&["ghost", "*", "apps", "example"]), None);
        assert_eq!(ask(&["a", "ghost", "*", "apps", "example"]), None);
        // Elsewhere in a name, `*` is an ordinary label (RFC 4592 §2.1.3).
        assert_eq!(ask(&["ghost", "*", "b", "apps", "example"]), wild);
    }

    #[test]
    fn the_name_above_a_wildcard_keeps_its_own_records() {
        let nodes = nodes(&[entry("*.apps.example"), entry("apps.example")], &PassNames::default(), 30);
        assert_eq!(ask(&nodes, "apps.example", TYPE_A), Some(12));
        assert_eq!(ask(&nodes, "a.apps.example", TYPE_A), Some(14));
    }

    #[test]
    fn a_wildcard_below_another_hides_it() {
        let nodes = nodes(&[entry("*.example"), entry("*.b.a.example")], &PassNames::default(), 30);
        assert_eq!(ask(&nodes, "x.example", TYPE_A), Some(9));
        assert_eq!(ask(&nodes, "x.b.a.example", TYPE_A), Some(13));
        assert_eq!(ask(&nodes, "x.a.example", TYPE_A), None);
        assert_eq!(ask(&nodes, "a.example", TYPE_A), None);
    }

    #[test]
    fn pass_names_take_precedence_and_change_nothing_else() {
        let entries = [entry("*.apps.example"), entry("a.example")];
        let nodes = nodes(&entries, &pass(&["a.example", "no.apps.example", "*.off.apps.example"]), 30);
        let wild = Some("*.apps.example".len() as u8);
        assert_eq!(ask(&nodes, "a.example", TYPE_A), None);
        assert_eq!(ask(&nodes, "no.apps.example", TYPE_A), None);
        assert_eq!(ask(&nodes, "x.no.apps.example", TYPE_A), wild);
        assert_eq!(ask(&nodes, "off.apps.example", TYPE_A), wild);
        assert_eq!(ask(&nodes, "x.off.apps.example", TYPE_A), None);
        assert_eq!(ask(&nodes, "y.x.off.apps.example", TYPE_A), None);
    }

    #[test]
    fn all_names_below_a_pass_suffix_pass() {
        let entries = [entry("*.example"), entry("*.b.example"), entry("x.a.b.example"), entry("b.example")];
        let nodes = nodes(&entries, &pass(&["*.b.example", "b.b.example"]), 30);
        assert_eq!(ask(&nodes, "b.example", TYPE_A), Some(9));
        assert_eq!(ask(&nodes, "c.example", TYPE_A), Some(9));
        // The name above a wildcard exists even if all names below it pass: the wildcard above does not cover it.
        let owner = nodes_of(&[entry("*.example"), entry("*.b.example")], &pass(&["*.b.example"]), 30);
        assert_eq!(ask(&owner, "b.example", TYPE_A), None);
        for passes in ["y.b.example", "x.a.b.example", "z.a.b.example", "a.b.example", "b.b.example", "q.b.b.example"] {
            assert_eq!(ask(&nodes, passes, TYPE_A), None, "{passes}");
        }
    }
}
