//! Static names to nodes: what domain.yaml says, with wildcards by RFC 4592 and `PassNames` on top.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::name::Name;
use super::node::{ANY_TYPE, Node, Verdict, ZoneId};
use super::pass::PassNames;
use super::render;

/// Seconds that an answer may be kept.
pub const TTL_RANGE: RangeInclusive<u32> = 1..=3600;

/// RFC 1035 §3.2.2, RFC 3596 §2.1.
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A name of domain.yaml with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name; of a wildcard what is behind its `*.`.
    pub name: Name,
    /// Whether it stands for the names below `name` that do not exist.
    pub wildcard: bool,
    /// Of either family, in the order of the file.
    pub addresses: Vec<IpAddr>,
    /// Seconds; None: the config's TTL.
    pub ttl: Option<u32>,
    /// Whether types other than A and AAAA get NODATA; else they pass.
    pub authoritative: bool,
}

/// The nodes that answer as `entries` say, and pass as `pass` says; every name once. `ttl` is for entries without one.
#[must_use]
pub fn nodes(entries: &[Entry], pass: &PassNames, ttl: u32) -> Vec<(Name, Node)> {
    let mut renderer = Renderer { ttl, fallbacks: HashMap::new() };
    let mut exact: HashMap<&Name, Node> = HashMap::new();
    let mut wild = HashMap::new();
    for entry in entries {
        if !entry.wildcard {
            let types = if pass.covers(&entry.name) { Node::pass(ZoneId::Static) } else { renderer.node(entry) };
            exact.insert(&entry.name, types);
        } else if !pass.covers_below(&entry.name) {
            wild.insert(&entry.name, Arc::new(renderer.node(entry)));
        }
    }

    // Names that exist (RFC 4592 §2.2): owners, and what lies between them and a wildcard above. Others need no node: they
    // pass whether they are there or not.
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
    // Pass names that do not exist get a node of their own, which must not end what a wildcard says of the names below.
    let closest = |name: &Name| name.ancestors().skip(1).find(|a| exists.contains(a)).and_then(|a| wild.get(&a));
    for name in pass.names().filter(|n| !exists.contains(*n)) {
        let mut node = Node::pass(ZoneId::Static);
        if let Some(wildcard) = closest(name).filter(|_| !pass.covers_below(name)) {
            node.child = Some(Arc::clone(wildcard));
            node.deep = Some(Arc::clone(wildcard));
        }
        nodes.insert(name.clone(), node);
    }
    // The name of a pass suffix is still a wildcard's, but ends it for the names below.
    for name in pass.suffixes().filter(|n| !exists.contains(*n) && !pass.covers(n)) {
        if let Some(wildcard) = closest(name) {
            nodes.insert(name.clone(), Node::clone(wildcard));
        }
    }
    nodes.into_iter().collect()
}

struct Renderer {
    ttl: u32,
    /// The NODATA of each TTL, for A and AAAA or for every type: stored once, whatever the number of names.
    fallbacks: HashMap<(u32, bool), Arc<Node>>,
}

impl Renderer {
    fn node(&mut self, entry: &Entry) -> Node {
        let ttl = entry.ttl.unwrap_or(self.ttl);
        let mut node = Node::pass(ZoneId::Static);
        for (qtype, is_ours) in [(TYPE_A, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (TYPE_AAAA, IpAddr::is_ipv6)] {
            let addresses: Vec<IpAddr> = entry.addresses.iter().copied().filter(is_ours).collect();
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
    use super::super::node::Kind;
    use super::nodes as nodes_of;
    use super::*;

    fn entry(text: &str) -> Entry {
        let (name, wildcard) = text.strip_prefix("*.").map_or((text, false), |n| (n, true));
        Entry {
            name: Name::parse(name).unwrap(),
            wildcard,
            // An address that tells the entry.
            addresses: vec![IpAddr::from([10, 0, 0, text.len() as u8])],
            ttl: None,
            authoritative: false,
        }
    }

    /// What a question gets by the rules of lookup.h and answer.h: the length of the entry that answers, 0 for NODATA.
    fn ask(nodes: &[(Name, Node)], name: &str, qtype: u16) -> Option<u8> {
        ask_of(nodes, &Name::parse(name).unwrap(), qtype)
    }

    fn ask_of(nodes: &[(Name, Node)], name: &Name, qtype: u16) -> Option<u8> {
        let nodes: HashMap<&Name, &Node> = nodes.iter().map(|(n, node)| (n, node)).collect();
        let (depth, node) = name.ancestors().enumerate().find_map(|(i, a)| nodes.get(&a).map(|n| (i, *n)))?;
        let node = match depth {
            0 => node,
            1 => node.child.as_deref()?,
            _ if name.labels().nth(depth - 1) == Some(b"*") => return None,
            _ => node.deep.as_deref()?,
        };
        let types = node.types.iter().chain(node.fallback.iter().flat_map(|f| &f.types));
        match types.into_iter().find(|(t, _)| *t == qtype || *t == ANY_TYPE)? {
            (_, Verdict::Answer(a)) if a.kind == Kind::Nodata => Some(0),
            (_, Verdict::Answer(a)) => a.bytes.last().copied(),
            (_, Verdict::Pass) => None,
        }
    }

    fn pass(names: &[&str]) -> PassNames {
        let mut pass = PassNames::default();
        names.iter().for_each(|n| pass.add(n).unwrap());
        pass
    }

    #[test]
    fn a_name_answers_its_family_and_nodata_for_the_other() {
        let nodes = nodes(&[entry("a.example")], &PassNames::default(), 30);
        assert_eq!(ask(&nodes, "a.example", TYPE_A), Some(9));
        assert_eq!(ask(&nodes, "a.example", TYPE_AAAA), Some(0));
        assert_eq!(ask(&nodes, "a.example", 16), None);
        assert_eq!(ask(&nodes, "example", TYPE_A), None);
        assert_eq!(ask(&nodes, "b.a.example", TYPE_A), None);
    }

    #[test]
    fn authoritative_names_have_no_other_types() {
        let nodes = nodes(&[Entry { authoritative: true, ..entry("a.example") }], &PassNames::default(), 30);
        assert_eq!(ask(&nodes, "a.example", 16), Some(0));
    }

    #[test]
    fn names_share_their_nodata() {
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
    fn a_wildcards_own_name_exists() {
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
        // Elsewhere it is a label as others are.
        assert_eq!(ask(&["ghost", "*", "b", "apps", "example"]), wild);
    }

    #[test]
    fn an_owner_of_a_wildcard_keeps_its_own_records() {
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
    fn pass_names_win_and_change_nothing_else() {
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
    fn a_pass_suffix_hides_what_lies_below() {
        let entries = [entry("*.example"), entry("*.b.example"), entry("x.a.b.example"), entry("b.example")];
        let nodes = nodes(&entries, &pass(&["*.b.example", "b.b.example"]), 30);
        assert_eq!(ask(&nodes, "b.example", TYPE_A), Some(9));
        assert_eq!(ask(&nodes, "c.example", TYPE_A), Some(9));
        // A wildcard's owner exists, whether its names pass or not: it is not for the wildcard above.
        let owner = nodes_of(&[entry("*.example"), entry("*.b.example")], &pass(&["*.b.example"]), 30);
        assert_eq!(ask(&owner, "b.example", TYPE_A), None);
        for passes in ["y.b.example", "x.a.b.example", "z.a.b.example", "a.b.example", "b.b.example", "q.b.b.example"] {
            assert_eq!(ask(&nodes, passes, TYPE_A), None, "{passes}");
        }
    }
}
