//! Static names over the cluster's: one set of nodes out of two.
//!
//! For a question the first of these holds: PassNames; a static name; a name of the cluster; and, at the closest name above
//! that exists in either set, a static wildcard (RFC 4592 §3.3.1) and then what the cluster's zone says of names that are not
//! there. So a name of the cluster is no wildcard's, and one that only static names below it make exist passes: the cluster
//! would call it missing, and with it all below (RFC 8020).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::change::{Change, append, order};
use super::cluster::{Cluster, Take, gate};
use super::name::Name;
use super::node::{Node, ZoneId};
use super::pass::PassNames;

/// The static set, and how it is laid over the cluster's. Without a cluster there is nothing to be laid over.
pub struct Layers {
    /// The cluster's zone, and where its addresses' names are.
    zones: [Name; 2],
    pass: PassNames,
    /// All static names.
    names: HashSet<Name>,
    /// Those that could be the cluster's.
    within: HashMap<Name, Node>,
    /// Names of PassNames' suffixes that are a wildcard's, which they are not if the cluster has them.
    implied: HashSet<Name>,
    /// Static names below which the cluster may have names that are not in the maps: no wildcard holds there.
    withheld: HashSet<Name>,
}

impl Layers {
    /// No static names, over the cluster's zone.
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

    /// Makes `nodes` the static set; `pass` is what they were made with, and the cluster too. Returns what has to change in
    /// the maps, in order; nodes that were there before are among it. `cluster` has no changes to commit, and was
    /// announced before if there is one, and reconfigured if PassNames are new.
    pub fn set_statics(&mut self, nodes: Vec<(Name, Node)>, pass: &PassNames, cluster: &Cluster) -> Vec<Change> {
        let zone = self.zones[0].clone();
        let mut all: HashMap<Name, Node> = nodes.into_iter().collect();
        let is_wildcards = |name: &&Name| {
            let closest = name.ancestors().skip(1).find_map(|above| all.get(&above));
            let wildcard = closest.and_then(|node| node.child.as_ref());
            all.get(*name).zip(wildcard).is_some_and(|(node, w)| node.types == w.types && node.fallback == w.fallback)
        };
        self.implied = pass.suffixes().filter(is_wildcards).cloned().collect();
        let owners = all
            .iter()
            .filter(|(name, node)| speaks(node) && name.is_within(&zone) && !self.implied.contains(*name))
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

        // A wildcard above the zone ends there, also for what is below names that pass.
        let above = zone.ancestors().skip(1).find_map(|above| all.get(&above)?.child.clone());
        let is_above = |node: &Node| node.child.as_ref().zip(above.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(a, b));

        let mut changes = Vec::with_capacity(all.len());
        for name in old.into_iter().filter(|name| !all.contains_key(name)) {
            // Before anything is known, the one of all names is at the zone's own.
            let is_there = self.may_be_cluster(&name) && (cluster.is_begun() || name == zone);
            let below = if is_there { cluster.node(&name) } else { None };
            changes.push(match below {
                Some(node) => Change::Put(name, node),
                None => Change::Remove(name),
            });
        }
        for (name, mut node) in all {
            if self.may_be_cluster(&name) {
                if cluster.is_expected() {
                    if is_above(&node) {
                        (node.child, node.deep) = (None, None);
                    }
                    node = over_cluster(node, gate::of_wildcard(&name, &zone));
                }
                self.within.insert(name.clone(), node.clone());
                if cluster.withholds(&name) {
                    self.withheld.insert(name.clone());
                }
                let below = cluster.node(&name);
                changes.push(self.over(name, below));
            } else {
                changes.push(Change::Put(name, node));
            }
        }
        order(&mut changes);
        changes
    }

    /// What changes of the cluster change in the maps, in order.
    #[must_use]
    pub fn merge(&self, changes: Vec<Change>) -> Vec<Change> {
        if self.within.is_empty() {
            return changes;
        }
        let mut merged: Vec<Change> = changes
            .into_iter()
            .map(|change| match change {
                change if !self.within.contains_key(change.name()) => change,
                Change::Put(name, node) => self.over(name, Some(node)),
                Change::Remove(name) => self.over(name, None),
            })
            .collect();
        order(&mut merged);
        merged
    }

    /// The same where all that was said of the cluster before is void: static names lie over what it has now.
    #[must_use]
    fn merge_first(&self, changes: Vec<Change>, cluster: &Cluster) -> Vec<Change> {
        if self.within.is_empty() {
            return changes;
        }
        let others = changes.into_iter().filter(|change| !self.within.contains_key(change.name()));
        let own = self.within.keys().map(|name| self.over(name.clone(), cluster.node(name)));
        let mut merged: Vec<Change> = others.chain(own).collect();
        order(&mut merged);
        merged
    }

    /// How many static names there are, with those that only others make exist.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What changes in the maps by some of what was said of the cluster since the last time, in order.
    pub fn commit(&mut self, cluster: &mut Cluster, take: Take) -> Vec<Change> {
        let is_first = !cluster.is_begun();
        let (first, rest) = (cluster.commit_some(take), cluster.rest());
        let mut changes = self.withhold(cluster);
        append(&mut changes, if is_first { self.merge_first(first, cluster) } else { self.merge(first) });
        append(&mut changes, self.merge(rest));
        append(&mut changes, self.release(cluster));
        changes
    }

    /// What changes since names of the cluster are about to go that are still there; before what these change.
    fn withhold(&mut self, cluster: &Cluster) -> Vec<Change> {
        let is_new = |name: &&Name| !self.withheld.contains(*name) && cluster.withholds(name);
        let new: Vec<Name> = self.within.keys().filter(is_new).cloned().collect();
        self.withheld.extend(new.iter().cloned());
        new.into_iter().map(|name| self.over(name.clone(), cluster.node(&name))).collect()
    }

    /// What changes since names of the cluster are there again; after what these change.
    fn release(&mut self, cluster: &Cluster) -> Vec<Change> {
        let gone: Vec<Name> = self.withheld.iter().filter(|name| !cluster.withholds(name)).cloned().collect();
        self.withheld.retain(|name| cluster.withholds(name));
        gone.into_iter().map(|name| self.over(name.clone(), cluster.node(&name))).collect()
    }

    fn may_be_cluster(&self, name: &Name) -> bool {
        self.zones.iter().any(|zone| name.is_within(zone))
    }

    /// A static name's node, over that which the cluster has for it.
    fn over(&self, name: Name, cluster: Option<Node>) -> Change {
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

/// A static node where the cluster may have names. What a wildcard says holds for those that the cluster does not have, so it
/// goes by the cluster's zone: held back until all of the cluster is known, and while it may have changed since. It is also
/// said to those alone who are asked for the cluster's names: at other servers other names exist, and it is not known which.
fn over_cluster(node: Node, gate: u8) -> Node {
    let held = |wildcard: Option<Arc<Node>>| wildcard.map(|node| Arc::new(of_cluster(&node, gate)));
    Node { child: held(node.child), deep: held(node.deep), ..node }
}

fn of_cluster(node: &Node, gate: u8) -> Node {
    let fallback = node.fallback.as_deref().map(|fallback| Arc::new(of_cluster(fallback, gate)));
    Node { zone: ZoneId::Cluster, gate, fallback, ..node.clone() }
}

fn has_records(node: &Node) -> bool {
    !node.types.is_empty() || node.fallback.is_some()
}

/// Whether the node says something of its name or of those below.
fn speaks(node: &Node) -> bool {
    has_records(node) || node.child.is_some() || node.deep.is_some()
}

#[cfg(test)]
mod tests;
