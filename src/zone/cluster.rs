//! The cluster's zone: makes nodes from Services, EndpointSlices and namespaces. Their answers are those of CoreDNS'
//! kubernetes plugin with `pods insecure`.
//!
//! [`spec`] is the input and `model` the form in which it is kept. `plan` computes the names of a Service from its `slices`;
//! `alias` follows ExternalNames, `reverse` maps addresses to names, and `nodes` renders. [`Cluster`] is an index over
//! the objects of the API. Changes of objects go in, and [`Cluster::commit`] returns the changes of names that follow from
//! them, in an order in which the maps can follow one by one.
//!
//! A name without a node gets NXDOMAIN from the `child` or `deep` of its closest encloser. It passes if the encloser has
//! neither. So nodes above uncertain names have no `child` and no `deep`.
//!
//! # Data model
//!
//! | Data | Type | Kept in |
//! | --- | --- | --- |
//! | an object as the API has it | [`spec`] | nowhere: it is parsed when it arrives |
//! | a Service, an EndpointSlice | `model::Service`, `model::Slice` | [`Cluster`], by namespace and name |
//! | all objects of one Service's name | `model::Entry` | [`Cluster`], by namespace and name of the Service |
//! | the names of a Service and their records | `plan::Plan` | nowhere: made from the entry when it changes |
//! | the owners of each address | `reverse::Reverse` | [`Cluster`], by address |
//! | the targets of ExternalNames | `alias::Resolver` | only during a commit |
//! | rendered nodes | [`Node`] | the maps alone; [`Cluster::node`] renders one again |
//!
//! # Limits
//!
//! [`share`] withholds names if the maps have no room for all; [`keep`] bounds the objects that are kept in memory.
//!
//! # Threads
//!
//! A commit takes some ten microseconds for each name that changes. It uses only the index, so any thread can commit.

mod alias;
mod commit;
pub mod gate;
pub mod keep;
mod marks;
mod model;
mod nodes;
mod objects;
mod plan;
mod reverse;
pub mod share;
mod size;
mod slices;
pub mod spec;
#[cfg(test)]
mod tests;
mod withheld;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use self::alias::Resolver;
use self::keep::Inventory;
use self::model::{Entry, Slice, labels_in};
use self::nodes::Renderer;
use self::plan::{Plan, plan};
use self::reverse::{Reverse, own_addresses};
use self::share::{NameGroup, NamespaceUse, Shares, Size, Sizes};
use self::spec::Key;
use self::withheld::Withheld;
use super::change::{Change, order};
use super::name::Name;
use super::node::{Node, ZoneId};
use super::pass::PassNames;

/// The configuration of the cluster's zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The zone's name.
    pub zone: Name,
    /// TTL of answers, in seconds.
    pub ttl: u32,
    /// Whether absent names and types get negative answers. Otherwise queries for them pass.
    pub negative_answers: bool,
    /// The SOA's serial. It is constant, since changing it would change every negative answer in the maps.
    pub serial: u32,
    /// Names that eDNS never answers.
    pub pass: PassNames,
}

/// The objects of the API at present: namespaces by name, and entries by namespace and name of their Service.
#[derive(Default)]
struct Objects {
    namespaces: HashSet<Box<str>>,
    services: BTreeMap<Arc<Key>, Entry>,
}

impl Objects {
    fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Arc<Key>, &'a Entry)> {
        let from = Key::new(namespace, "");
        self.services.range(from..).take_while(move |(key, _)| *key.namespace == *namespace)
    }
}

/// Entries and namespaces that changed since the last commit, in the state of that commit.
#[derive(Default)]
struct Pending {
    entries: HashMap<Arc<Key>, PendingEntry>,
    /// Namespaces, and whether they existed.
    namespaces: HashMap<Box<str>, bool>,
    /// Changed Services that ExternalNames depend on, with the time of their first change.
    causes: HashMap<Arc<Key>, Instant>,
    /// The arrival time of the changes that are applied at present.
    arrived: Option<Instant>,
}

impl Pending {
    /// All Services' entries as of the last commit, given the objects at present.
    fn all_committed<'a>(&'a self, present: &'a Objects) -> impl Iterator<Item = (&'a Arc<Key>, &'a Entry)> {
        let unchanged = present.services.iter().filter(|(key, _)| !self.entries.contains_key(*key));
        unchanged.chain(self.entries.iter().map(|(key, pending)| (key, &pending.entry)))
    }
}

/// An entry that changed.
struct PendingEntry {
    /// The entry as of the last commit.
    entry: Entry,
    /// The time of its first change; None: late in any case ([`Cluster::set_late`]).
    since: Option<Instant>,
    /// The endpoints and ports of the objects that changed.
    changed: usize,
}

/// The changes that a commit takes. The others wait for the next one.
#[derive(Debug, Clone, Copy)]
pub enum Take {
    /// All of them.
    All,
    /// Changes up to this amount of work (roughly endpoints and ports), those of the namespaces with the least work first.
    Least(usize),
    /// Changes up to this amount of work but of at least one Service, those that have waited longest first.
    Oldest(usize),
}

/// A namespace with changes that wait for a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingNamespace {
    /// The namespace.
    pub namespace: Box<str>,
    /// The gate of its negative answers ([`Node::gate`]).
    pub gate: u8,
    /// The time of its first waiting change; None: late in any case ([`Cluster::set_late`]).
    pub since: Option<Instant>,
}

/// The objects on each list that has begun and not ended. Objects that are not on it no longer exist.
#[derive(Default)]
struct Listed {
    namespaces: HashSet<Box<str>>,
    services: HashSet<Key>,
    slices: HashSet<Key>,
}

/// The maximum memory, in units, of a name that every zone has: the apex, `svc`, `pod`, `dns` and `dns-version`.
const FIXED_NAME_UNITS: usize = 12;

/// The index over the cluster's objects.
///
/// The changes that a commit returns are applied to the maps one by one, in that order, after
/// [`Layers::merge`](super::layers::Layers::merge) has layered static names over them. Before every kind of object was listed
/// once, its names are incomplete: the zone's gates have to be closed until then.
pub struct Cluster {
    renderer: Renderer,
    objects: Objects,
    /// Each EndpointSlice, with the key of its Service's entry.
    slices: HashMap<Key, (Arc<Key>, Arc<Slice>)>,
    /// ExternalName Services by the entry that they depend on ([`Entry::depends_on`]).
    dependents: HashMap<Key, BTreeSet<Arc<Key>>>,
    /// The owners of addresses, as of the last commit.
    reverse: Reverse,
    /// The sizes of names and the names withheld, as of the last commit.
    shares: Shares,
    withheld: Withheld,
    inventory: Inventory,
    listed: Listed,
    pending: Pending,
    /// Work of the last commit, in endpoints and ports.
    spent: usize,
    /// Changes to apply after those of the last commit ([`Self::rest`]).
    rest: Vec<Change>,
    /// Whether the first commit was made. It puts the names that every zone has.
    begun: bool,
    /// Whether [`Self::announce`] put the placeholder, which covers the whole zone.
    awaited: bool,
}

impl Cluster {
    /// An empty cluster. The first commit puts the names that every zone has.
    #[must_use]
    pub fn new(config: ClusterConfig) -> Self {
        Self {
            renderer: Renderer::new(config),
            objects: Objects::default(),
            slices: HashMap::new(),
            dependents: HashMap::new(),
            reverse: Reverse::default(),
            shares: Shares::new(),
            withheld: Withheld::default(),
            inventory: Inventory::new(),
            listed: Listed::default(),
            pending: Pending::default(),
            spent: 0,
            rest: Vec::new(),
            begun: false,
            awaited: false,
        }
    }

    /// Announces the zone before any object is known. Returns the change that puts a placeholder: one node that answers every
    /// name in the zone until the first commit, so that the closed gates have an answer to hold back.
    pub fn announce(&mut self) -> Vec<Change> {
        self.awaited = true;
        let zone = self.renderer.config.zone.clone();
        let node = self.node(&zone);
        node.map(|node| Change::Put(zone, node)).into_iter().collect()
    }

    /// Sets the room that the maps have for the cluster's names. It applies from the next commit on.
    pub fn set_capacity(&mut self, capacity: Size) {
        let fixed = self.renderer.fixed_names().len() + self.renderer.pass_names().count();
        self.shares.set_capacity(capacity.less(Size { names: fixed, units: fixed * FIXED_NAME_UNITS }));
    }

    /// A Service's entry as of the last commit.
    fn committed(&self, key: &Key) -> Option<&Entry> {
        self.pending.entries.get(key).map(|pending| &pending.entry).or_else(|| self.objects.services.get(key))
    }

    /// The node that a name has as of the last commit, without regard to `PassNames`.
    fn own_node(&self, name: &Name) -> Option<Node> {
        let Some(labels) = labels_in(name, &self.renderer.config.zone) else {
            let address = reverse::address_of(name)?;
            return Some(self.renderer.pointer(name, address, &self.pointer(address)?));
        };
        let named = |nodes: Vec<(Name, Node)>| nodes.into_iter().find(|(n, _)| n == name).map(|(_, node)| node);
        match labels[..] {
            [] | [_] => named(self.renderer.fixed_names()),
            [namespace, "svc" | "pod"] => {
                let passes_absent_names = self.shares.passes_absent_names(namespace);
                self.objects
                    .namespaces
                    .contains(namespace)
                    .then(|| named(self.renderer.namespace(namespace, passes_absent_names)))?
            }
            [ref relative @ .., service, namespace, "svc"] if self.objects.namespaces.contains(namespace) => {
                let key = Key::new(namespace, service);
                let plan = plan(self.committed(&key)?, None);
                let base = self.renderer.service_name(&key)?;
                let relative = relative.join(".");
                let withheld = self.shares.withheld(&key);
                let content =
                    plan.get(&*relative).filter(|content| !withheld.has(NameGroup::of(&relative, content)))?;
                Some(self.content_node(&mut Resolver::default(), &key, &base, name, content, withheld))
            }
            _ => None,
        }
    }

    /// The node of a name as of the last commit; before the first one, the placeholder. None if the name has no node.
    #[must_use]
    pub fn node(&self, name: &Name) -> Option<Node> {
        let own = if self.begun {
            self.own_node(name)
        } else {
            let is_ours = self.awaited && name.is_within(&self.renderer.config.zone);
            is_ours.then(|| self.renderer.placeholder())
        };
        match self.renderer.change(name.clone(), own)? {
            Change::Put(_, node) => Some(node),
            Change::Remove(_) => None,
        }
    }

    /// All nodes as of the last commit.
    fn nodes(&self) -> HashMap<Name, Node> {
        let mut out = Vec::new();
        let mut add = |name, node| out.extend(self.renderer.change(name, Some(node)));
        self.renderer.fixed_names().into_iter().for_each(|(name, node)| add(name, node));
        for namespace in &self.objects.namespaces {
            let passes_absent_names = self.shares.passes_absent_names(namespace);
            self.renderer
                .namespace(namespace, passes_absent_names)
                .into_iter()
                .for_each(|(name, node)| add(name, node));
        }
        for address in self.reverse.addresses() {
            if let Some((name, Some(node))) = self.renderer.reverse(address, self.pointer(address).as_ref()) {
                add(name, node);
            }
        }
        let mut resolver = Resolver::default();
        for (key, entry) in self.pending.all_committed(&self.objects) {
            if self.objects.namespaces.contains(&key.namespace) {
                let withheld = [self.shares.withheld(key); 2];
                self.changes_of(&mut resolver, key, [&Plan::new(), &plan(entry, None)], withheld, &mut out);
            }
        }
        let pass_names = self.renderer.pass_names().map(|name| (name.clone(), Node::pass(ZoneId::Cluster)));
        let puts = out.into_iter().filter_map(|change| match change {
            Change::Put(name, node) => Some((name, node)),
            Change::Remove(_) => None,
        });
        // Later nodes replace earlier ones of the same name.
        pass_names.chain(puts).collect()
    }

    /// Replaces the configuration. Returns the changes of a commit under the old one, and then those that the new one makes.
    /// Before the first commit, only the placeholder changes.
    pub fn reconfigure(&mut self, config: ClusterConfig) -> Vec<Change> {
        if !self.begun {
            self.set_config(config);
            let zone = self.renderer.config.zone.clone();
            return match self.node(&zone) {
                _ if !self.awaited => Vec::new(),
                Some(node) => vec![Change::Put(zone, node)],
                None => vec![Change::Remove(zone)],
            };
        }
        if config == self.renderer.config {
            return Vec::new();
        }
        let before = self.nodes();
        self.set_config(config);
        self.recount();
        self.shares.decide();
        self.withheld.clear();
        self.update_withheld(self.reverse.addresses().collect::<Vec<_>>());
        let mut after = self.nodes();
        let gone = before.keys().filter(|name| !after.contains_key(*name)).cloned().map(Change::Remove);
        let mut changes: Vec<Change> = gone.collect();
        after.retain(|name, node| before.get(name) != Some(node));
        changes.extend(after.into_iter().map(|(name, node)| Change::Put(name, node)));
        order(&mut changes);
        changes
    }

    /// Counts the sizes of all names anew.
    fn recount(&mut self) {
        let config = &self.renderer.config;
        self.shares.clear();
        self.reverse.count(config, &mut self.shares);
        for namespace in &self.objects.namespaces {
            self.shares.count_namespace(namespace, Size::default(), size::namespace(namespace, config));
        }
        for (key, entry) in self.pending.all_committed(&self.objects) {
            if self.objects.namespaces.contains(&key.namespace) {
                let sizes = size::service(key, entry, &plan(entry, None), config);
                self.shares.count(key, Sizes::default(), sizes);
            }
        }
    }

    /// Sets the configuration, and updates what depends on the zone's name.
    fn set_config(&mut self, config: ClusterConfig) {
        self.renderer = Renderer::new(config);
        self.dependents.clear();
        for (key, entry) in &self.objects.services {
            if let Some(on) = entry.depends_on(&self.renderer.config.zone) {
                self.dependents.entry(on).or_default().insert(Arc::clone(key));
            }
        }
    }

    /// Whether the daemon watches a cluster: the zone was announced or a commit made.
    #[must_use]
    pub const fn is_expected(&self) -> bool {
        self.awaited || self.begun
    }

    /// Whether the first commit was made.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.begun
    }

    /// The number of names that are withheld, and whether `MaxRecords` is the limit (otherwise it is memory).
    #[must_use]
    pub const fn withheld_names(&self) -> (usize, bool) {
        self.shares.withheld_names()
    }

    /// The namespaces with the most names, at most `count` of them.
    #[must_use]
    pub fn largest_namespaces(&self, count: usize) -> Vec<NamespaceUse> {
        self.inventory.largest_namespaces(count, &self.shares)
    }

    /// Namespaces that exceed their share and that no earlier call has returned.
    pub fn newly_withheld(&mut self) -> Vec<NamespaceUse> {
        self.shares.newly_withheld()
    }

    /// Whether the cluster may have names below this one that are withheld from the maps.
    #[must_use]
    pub fn withholds(&self, name: &Name) -> bool {
        match labels_in(name, &self.renderer.config.zone).as_deref() {
            None => self.withheld.is_below(name) || !self.inventory.mark_table.is_empty(),
            Some([.., namespace, "svc"]) => self.shares.withholds(namespace),
            Some(_) => false,
        }
    }

    /// Whether the API has this Service at present.
    #[must_use]
    pub fn has_service(&self, key: &Key) -> bool {
        self.objects.services.get(key).is_some_and(|entry| entry.service.is_some())
    }

    /// The cluster IPs of a Service at present.
    #[must_use]
    pub fn own_addresses(&self, key: &Key) -> &[IpAddr] {
        self.objects.services.get(key).map_or(&[], own_addresses)
    }

    /// The addresses of a Service's ready endpoints at present.
    pub fn endpoints(&self, key: &Key) -> impl Iterator<Item = IpAddr> {
        self.objects.services.get(key).into_iter().flat_map(|e| e.endpoints().map(|(_, endpoint)| endpoint.address))
    }
}
