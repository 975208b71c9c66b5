//! Static names layered over the cluster's names: one set of nodes for the maps, made from two.
//!
//! A query is answered by the first of these that applies:
//!
//! 1. `PassNames`: the query passes.
//! 2. A static name.
//! 3. A name of the cluster.
//! 4. A static wildcard of the closest encloser (RFC 4592 §3.3.1), the closest ancestor that exists in either set.
//! 5. The cluster's NXDOMAIN, at the same closest encloser.
//!
//! A static wildcard therefore never covers a name of the cluster. A name that exists only because a static name lies below
//! it passes: the cluster's NXDOMAIN for it would deny the static name, too (RFC 8020).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::change::{Change, append, order};
use super::cluster::{Cluster, Take, gate};
use super::name::Name;
use super::node::{Node, ZoneId};
use super::pass::PassNames;

/// The static names, and the rules by which they are layered over the cluster's. Without a cluster they are the only layer.
pub struct Layers {
    /// The zones that hold names of the cluster: its own, and arpa for its reverse names.
    zones: [Name; 2],
    pass: PassNames,
    /// All static names.
    names: HashSet<Name>,
    /// The nodes of static names within `zones`, which the cluster may have, too.
    within: HashMap<Name, Node>,
    /// Suffixes of `PassNames` that got a copy of the records of a static wildcard above them. The cluster's node replaces
    /// these records, as it does for every name that a wildcard covers.
    implied: HashSet<Name>,
    /// Static names below which the cluster withholds names from the maps: their wildcards don't apply.
    withheld: HashSet<Name>,
}

impl Layers {
    /// Layers without static names, over the cluster's zone `zone`.
    #[must_use]
    pub fn new(zone: Name) -> Self {
        let arpa = Name::from_labels(["arpa"]).unwrap_or_else(|_| Name::root());
        Self {
            zones: [zone, arpa],
            pass: PassNames::default(),
            names: HashSet::new(),
            within: HashMap::new(),
            implied: HashSet::new(),
            withheld: HashSet::new(),
        }
    }

    /// Replaces the static names by `nodes`. Returns the changes of the maps, in order; unchanged nodes are among them.
    ///
    /// `pass` are the `PassNames` that `nodes` and `cluster` were made with. The cluster must have no changes to commit. If the
    /// daemon watches one, it must have been [announced](Cluster::announce).
    pub fn set_statics(&mut self, nodes: Vec<(Name, Node)>, pass: &PassNames, cluster: &Cluster) -> Vec<Change> {
        let zone = self.zones[0].clone();
        let mut all: HashMap<Name, Node> = nodes.into_iter().collect();
        let has_wildcards_records = |name: &&Name| {
            let closest = name.ancestors().skip(1).find_map(|above| all.get(&above));
            let wildcard = closest.and_then(|node| node.child.as_ref());
            all.get(*name).zip(wildcard).is_some_and(|(node, w)| node.types == w.types && node.fallback == w.fallback)
        };
        self.implied = pass.suffixes().filter(has_wildcards_records).cloned().collect();
        let owners = all
            .iter()
            .filter(|(name, node)| has_content(node) && name.is_within(&zone) && !self.implied.contains(*name))
            .map(|(name, _)| name);
        let above: HashSet<Name> =
            owners.flat_map(|n| n.ancestors().skip(1).take_while(|a| *a != zone && a.is_within(&zone))).collect();
        for name in above {
            all.entry(name).or_insert(const { Node::pass(ZoneId::Static) });
        }
        let old = std::mem::take(&mut self.names);
        self.pass = pass.clone();
        self.names = all.keys().cloned().collect();
        self.within.clear();
        self.withheld.clear();

        // A wildcard above the zone does not apply within it, not even below names that pass.
        let above = zone.ancestors().skip(1).find_map(|above| all.get(&above)?.child.clone());
        let is_from_above =
            |node: &Node| node.child.as_ref().zip(above.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(a, b));

        let mut changes = Vec::with_capacity(all.len());
        for name in old.into_iter().filter(|name| !all.contains_key(name)) {
            // Before the first commit, only the zone's own name has a node: the placeholder.
            let is_known = self.is_in_zones(&name) && (cluster.is_begun() || name == zone);
            let below = if is_known { cluster.node(&name) } else { None };
            changes.push(match below {
                Some(node) => Change::Put(name, node),
                None => Change::Remove(name),
            });
        }
        for (name, mut node) in all {
            if self.is_in_zones(&name) {
                if cluster.is_expected() {
                    if is_from_above(&node) {
                        (node.child, node.deep) = (None, None);
                    }
                    node = with_cluster_wildcards(node, gate::of_wildcard(&name, &zone));
                }
                self.within.insert(name.clone(), node.clone());
                if cluster.withholds(&name) {
                    self.withheld.insert(name.clone());
                }
                let below = cluster.node(&name);
                changes.push(self.layer(name, below));
            } else {
                changes.push(Change::Put(name, node));
            }
        }
        order(&mut changes);
        changes
    }

    /// Turns the cluster's changes into changes of the maps, in order.
    #[must_use]
    pub fn merge(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.within.is_empty() {
            return changes;
        }
        let mut merged: Vec<Change> = changes
            .into_iter()
            .map(|change| match change {
                change if !self.within.contains_key(change.name()) => change,
                Change::Put(name, node) => self.layer(name, Some(node)),
                Change::Remove(name) => self.layer(name, None),
            })
            .collect();
        order(&mut merged);
        merged
    }

    /// Turns the changes of the cluster's first commit into changes of the maps. They replace the placeholder of
    /// [`Cluster::announce`], so every static name within the zones is layered anew over the cluster's node.
    #[must_use]
    fn merge_first(&self, changes: Vec<Change>, cluster: &Cluster) -> Vec<Change> {
        if self.within.is_empty() {
            return changes;
        }
        let others = changes.into_iter().filter(|change| !self.within.contains_key(change.name()));
        let own = self.within.keys().map(|name| self.layer(name.clone(), cluster.node(name)));
        let mut merged: Vec<Change> = others.chain(own).collect();
        order(&mut merged);
        merged
    }

    /// The number of static names, including those that exist only because others lie below them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the layers have only the cluster's names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Commits some of the cluster's changes. Returns the changes of the maps, in order.
    pub fn commit(&mut self, cluster: &mut Cluster, take: Take) -> Vec<Change> {
        let is_first = !cluster.is_begun();
        let (first, rest) = (cluster.commit_some(take), cluster.rest());
        let mut changes = self.suspend_wildcards(cluster);
        append(&mut changes, if is_first { self.merge_first(first, cluster) } else { self.merge(first) });
        append(&mut changes, self.merge(rest));
        append(&mut changes, self.restore_wildcards(cluster));
        changes
    }

    /// The changes that suspend static wildcards above names that the cluster is about to withhold. They come before the removal
    /// of these names.
    fn suspend_wildcards(&mut self, cluster: &Cluster) -> Vec<Change> {
        let is_new = |name: &&Name| !self.withheld.contains(*name) && cluster.withholds(name);
        let new: Vec<Name> = self.within.keys().filter(is_new).cloned().collect();
        self.withheld.extend(new.iter().cloned());
        new.into_iter().map(|name| self.layer(name.clone(), cluster.node(&name))).collect()
    }

    /// The changes that restore static wildcards below which the cluster withholds no name any more. They come after the names
    /// are back.
    fn restore_wildcards(&mut self, cluster: &Cluster) -> Vec<Change> {
        let restored: Vec<Name> = self.withheld.iter().filter(|name| !cluster.withholds(name)).cloned().collect();
        self.withheld.retain(|name| cluster.withholds(name));
        restored.into_iter().map(|name| self.layer(name.clone(), cluster.node(&name))).collect()
    }

    /// Whether the cluster may have the name.
    fn is_in_zones(&self, name: &Name) -> bool {
        self.zones.iter().any(|zone| name.is_within(zone))
    }

    /// The change that merges the static node of `name` over the cluster's node. Without a static node the cluster's node is
    /// used as it is.
    fn layer(&self, name: Name, cluster: Option<Node>) -> Change {
        let Some(node) = self.within.get(&name) else {
            return cluster.map_or_else(|| Change::Remove(name.clone()), |node| Change::Put(name.clone(), node));
        };
        let below = cluster.as_ref();
        let child = node.child.clone().or_else(|| below?.child.clone());
        let deep = node.deep.clone().or_else(|| below?.deep.clone());
        let keeps = has_records(node) && !self.implied.contains(&name) || self.pass.covers(&name);
        let own = cluster.filter(|_| !keeps).unwrap_or_else(|| node.clone());
        let (child, deep) = if self.withheld.contains(&name) { (None, None) } else { (child, deep) };
        Change::Put(name, Node { child, deep, ..own })
    }
}

/// A static node within the cluster's zones, with its wildcards moved to the cluster's set of names and behind `gate`.
///
/// A wildcard covers names that the cluster does not have. So its answers need the cluster's gates: they pass before the
/// initial sync and while the view is stale. They also need the cluster's servers, because eDNS does not know the names of
/// other servers.
fn with_cluster_wildcards(node: Node, gate: u8) -> Node {
    let moved = |wildcard: Option<Arc<Node>>| wildcard.map(|node| Arc::new(in_cluster_set(&node, gate)));
    Node { child: moved(node.child), deep: moved(node.deep), ..node }
}

/// The node and its fallback, moved to the cluster's set of names and behind `gate`.
fn in_cluster_set(node: &Node, gate: u8) -> Node {
    let fallback = node.fallback.as_deref().map(|fallback| Arc::new(in_cluster_set(fallback, gate)));
    Node { zone: ZoneId::Cluster, gate, fallback, ..node.clone() }
}

fn has_records(node: &Node) -> bool {
    !node.types.is_empty() || node.fallback.is_some()
}

/// Whether the node has anything for its name or for names below it.
fn has_content(node: &Node) -> bool {
    has_records(node) || node.child.is_some() || node.deep.is_some()
}

#[cfg(test)]
mod tests;
