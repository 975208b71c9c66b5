//! The cluster's zone: from Services, EndpointSlices and namespaces to the nodes of their names, as CoreDNS' kubernetes
//! plugin answers for them (with `pods insecure`).
//!
//! [`spec`] is what comes in and [`model`] what is kept of it. [`plan`] says which names a Service has, by its [`slices`];
//! [`alias`] follows ExternalNames and [`reverse`] addresses; [`nodes`] renders. [`Cluster`] is the index over it: changes go in,
//! and [`Cluster::commit`] says what that changed, in the order in which maps may follow.
//!
//! [`share`] says which names give way where not all of them fit into the maps, and [`keep`] which objects are not even kept.
//!
//! A name without a node gets what the closest node above says of such names: that they don't exist, or nothing, and then
//! they pass. So whatever is in doubt is under a node that says nothing.
//!
//! A commit of many changes takes a while, some ten microseconds a name, and needs nothing but the index: it can be made in
//! any thread.

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

use self::alias::Steps;
use self::keep::Keep;
use self::model::{Entry, Slice, labels_in};
use self::nodes::Renderer;
use self::plan::{Plan, plan};
use self::reverse::{Reverse, own_addresses};
use self::share::{Holder, Part, Shares, Size, Sizes};
use self::spec::Key;
use self::withheld::Withheld;
use super::change::{Change, order};
use super::name::Name;
use super::node::{Node, ZoneId};
use super::pass::PassNames;

/// What is not the API's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The zone's name.
    pub zone: Name,
    /// Seconds.
    pub ttl: u32,
    /// Whether absence is answered; else what is not there passes.
    pub negative_answers: bool,
    /// Of the SOA. It stays: each change of it would change every negative answer.
    pub serial: u32,
    /// Names that pass.
    pub pass: PassNames,
}

/// What the API says at present.
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

/// What changed and was not committed.
#[derive(Default)]
struct Pending {
    entries: HashMap<Arc<Key>, Pended>,
    /// Namespaces, and whether they were there.
    namespaces: HashMap<Box<str>, bool>,
    /// Names by which those may change that depend on them, and since when.
    causes: HashMap<Arc<Key>, Instant>,
    /// When what comes now arrived from the API server.
    arrived: Option<Instant>,
}

/// A Service's name that changed.
struct Pended {
    /// As of the last commit.
    entry: Entry,
    /// Since when it waits; None: for too long, whenever that was.
    since: Option<Instant>,
    /// Endpoints and ports of objects that changed.
    changed: usize,
}

/// Which changes a commit takes. The others wait for the next one.
#[derive(Debug, Clone, Copy)]
pub enum Take {
    /// All of them.
    All,
    /// Those of the namespaces that have the least of it, up to so much work: about as many endpoints and ports.
    Least(usize),
    /// Those that have waited longest, up to so much work, but one Service at least.
    Oldest(usize),
}

/// A namespace with changes that wait for a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The namespace.
    pub namespace: Box<str>,
    /// The gate of its negative answers ([`Node::gate`]).
    pub gate: u8,
    /// Since when; None: for too long, whenever that was.
    pub since: Option<Instant>,
}

/// Which objects are on the lists that have begun.
#[derive(Default)]
struct Listed {
    namespaces: HashSet<Box<str>>,
    services: HashSet<Key>,
    slices: HashSet<Key>,
}

/// Units that a name of the zone's frame takes at most.
const FRAME_UNITS: usize = 12;

/// The index.
///
/// Whoever keeps maps by it applies what a commit returns one by one, in that order, after [`super::layers::Layers::merge`]
/// where there are static names too. Until every kind of object was listed once its commits are no truth yet: the zone's
/// gates hold answers back for so long.
pub struct Cluster {
    renderer: Renderer,
    objects: Objects,
    /// Of which Service's name each slice is.
    slices: HashMap<Key, (Arc<Key>, Arc<Slice>)>,
    /// ExternalNames by what they depend on (see [`Entry::depends_on`]).
    dependents: HashMap<Key, BTreeSet<Arc<Key>>>,
    /// As of the last commit.
    reverse: Reverse,
    /// As of the last commit.
    shares: Shares,
    withheld: Withheld,
    keep: Keep,
    listed: Listed,
    pending: Pending,
    /// How much work the last commit was.
    spent: usize,
    /// What comes after what the last commit said.
    rest: Vec<Change>,
    /// Whether the zone's frame was put.
    begun: bool,
    /// Whether something stands for the zone before that.
    awaited: bool,
}

impl Cluster {
    /// An empty cluster. Its frame comes with the first commit.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            renderer: Renderer::new(settings),
            objects: Objects::default(),
            slices: HashMap::new(),
            dependents: HashMap::new(),
            reverse: Reverse::default(),
            shares: Shares::new(),
            withheld: Withheld::default(),
            keep: Keep::new(),
            listed: Listed::default(),
            pending: Pending::default(),
            spent: 0,
            rest: Vec::new(),
            begun: false,
            awaited: false,
        }
    }

    /// Says that the zone is there before anything in it is known: until the first commit each of its names has the same
    /// answer, for the zone's gates to hold back.
    pub fn announce(&mut self) -> Vec<Change> {
        self.awaited = true;
        let zone = self.renderer.settings.zone.clone();
        let node = self.node(&zone);
        node.map(|node| Change::Put(zone, node)).into_iter().collect()
    }

    /// How much room there is in the maps for the cluster's names, from the next commit on.
    pub fn set_capacity(&mut self, capacity: Size) {
        let frame = self.renderer.structure().len() + self.renderer.extras().count();
        self.shares.set_capacity(capacity.less(Size { names: frame, units: frame * FRAME_UNITS }));
    }

    /// What is known of a Service's name, as of the last commit.
    fn committed(&self, key: &Key) -> Option<&Entry> {
        self.pending.entries.get(key).map(|pended| &pended.entry).or_else(|| self.objects.services.get(key))
    }

    /// All Services' names as of the last commit.
    fn all_committed(&self) -> impl Iterator<Item = (&Arc<Key>, &Entry)> {
        let same = self.objects.services.iter().filter(|(key, _)| !self.pending.entries.contains_key(*key));
        same.chain(self.pending.entries.iter().map(|(key, pended)| (key, &pended.entry)))
    }

    /// The node that a name has as of the last commit, PassNames aside.
    fn own_node(&self, name: &Name) -> Option<Node> {
        let Some(labels) = labels_in(name, &self.renderer.settings.zone) else {
            let address = reverse::address_of(name)?;
            return Some(self.renderer.pointer(name, address, &self.pointer(address)?));
        };
        let named = |nodes: Vec<(Name, Node)>| nodes.into_iter().find(|(n, _)| n == name).map(|(_, node)| node);
        match labels[..] {
            [] | [_] => named(self.renderer.structure()),
            [namespace, "svc" | "pod"] => {
                let is_open = self.shares.is_open(namespace);
                self.objects
                    .namespaces
                    .contains(namespace)
                    .then(|| named(self.renderer.namespace(namespace, is_open)))?
            }
            [ref relative @ .., service, namespace, "svc"] if self.objects.namespaces.contains(namespace) => {
                let key = Key::new(namespace, service);
                let plan = plan(self.committed(&key)?, None);
                let base = self.renderer.service_name(&key)?;
                let relative = relative.join(".");
                let yields = self.shares.yields(&key);
                let holds = plan.get(&*relative).filter(|holds| !yields.has(Part::of(&relative, holds)))?;
                Some(self.held(&mut Steps::default(), &key, &base, name, holds, yields))
            }
            _ => None,
        }
    }

    /// The node that a name has as of the last commit, or the one of all names before it; None where it has none.
    #[must_use]
    pub fn node(&self, name: &Name) -> Option<Node> {
        let own = if self.begun {
            self.own_node(name)
        } else {
            let is_ours = self.awaited && name.is_within(&self.renderer.settings.zone);
            is_ours.then(|| self.renderer.awaited())
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
        self.renderer.structure().into_iter().for_each(|(name, node)| add(name, node));
        for namespace in &self.objects.namespaces {
            let is_open = self.shares.is_open(namespace);
            self.renderer.namespace(namespace, is_open).into_iter().for_each(|(name, node)| add(name, node));
        }
        for address in self.reverse.addresses() {
            if let Some((name, Some(node))) = self.renderer.reverse(address, self.pointer(address).as_ref()) {
                add(name, node);
            }
        }
        let mut steps = Steps::default();
        for (key, entry) in self.all_committed() {
            if self.objects.namespaces.contains(&key.namespace) {
                let yields = [self.shares.yields(key); 2];
                self.changes_of(&mut steps, key, [&Plan::new(), &plan(entry, None)], yields, &mut out);
            }
        }
        let extras = self.renderer.extras().map(|name| (name.clone(), Node::pass(ZoneId::Cluster)));
        let puts = out.into_iter().filter_map(|change| match change {
            Change::Put(name, node) => Some((name, node)),
            Change::Remove(_) => None,
        });
        // Later ones win.
        extras.chain(puts).collect()
    }

    /// Other settings, from now on: what has to change. Before the first commit that is what was announced.
    pub fn reconfigure(&mut self, settings: Settings) -> Vec<Change> {
        if !self.begun {
            self.set(settings);
            let zone = self.renderer.settings.zone.clone();
            return match self.node(&zone) {
                _ if !self.awaited => Vec::new(),
                Some(node) => vec![Change::Put(zone, node)],
                None => vec![Change::Remove(zone)],
            };
        }
        if settings == self.renderer.settings {
            return Vec::new();
        }
        let before = self.nodes();
        self.set(settings);
        self.count_anew();
        self.shares.decide();
        self.withheld.clear();
        self.note_withheld(self.reverse.addresses().collect::<Vec<_>>());
        let mut after = self.nodes();
        let gone = before.keys().filter(|name| !after.contains_key(*name)).cloned().map(Change::Remove);
        let mut changes: Vec<Change> = gone.collect();
        after.retain(|name, node| before.get(name) != Some(node));
        changes.extend(after.into_iter().map(|(name, node)| Change::Put(name, node)));
        order(&mut changes);
        changes
    }

    /// Counts everything anew.
    fn count_anew(&mut self) {
        let settings = &self.renderer.settings;
        self.shares.clear();
        self.reverse.count(settings, &mut self.shares);
        for namespace in &self.objects.namespaces {
            self.shares.count_namespace(namespace, Size::default(), size::namespace(namespace, settings));
        }
        let unchanged = self.objects.services.iter().filter(|(key, _)| !self.pending.entries.contains_key(*key));
        let pending = self.pending.entries.iter().map(|(key, pended)| (key, &pended.entry));
        for (key, entry) in unchanged.chain(pending) {
            if self.objects.namespaces.contains(&key.namespace) {
                let sizes = size::service(key, entry, &plan(entry, None), settings);
                self.shares.count(key, Sizes::default(), sizes);
            }
        }
    }

    fn set(&mut self, settings: Settings) {
        self.renderer = Renderer::new(settings);
        self.dependents.clear();
        for (key, entry) in &self.objects.services {
            if let Some(on) = entry.depends_on(&self.renderer.settings.zone) {
                self.dependents.entry(on).or_default().insert(Arc::clone(key));
            }
        }
    }

    /// Whether there is a cluster, be anything known of it or not.
    #[must_use]
    pub const fn is_expected(&self) -> bool {
        self.awaited || self.begun
    }

    /// Whether there was a commit.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.begun
    }

    /// Names that pass since there is no room for all, and whether it is that of names, else of memory.
    #[must_use]
    pub const fn passing(&self) -> (usize, bool) {
        self.shares.passing()
    }

    /// The namespaces with most names, at most so many.
    #[must_use]
    pub fn holders(&self, count: usize) -> Vec<Holder> {
        self.keep.holders(count, &self.shares)
    }

    /// Namespaces that have more than their share, each told of once.
    pub fn newly_yielding(&mut self) -> Vec<Holder> {
        self.shares.newly_yielding()
    }

    /// Whether the cluster may have names below this one that are not in the maps for want of room.
    #[must_use]
    pub fn withholds(&self, name: &Name) -> bool {
        match labels_in(name, &self.renderer.settings.zone).as_deref() {
            None => self.withheld.is_below(name) || !self.keep.marked.is_empty(),
            Some([.., namespace, "svc"]) => self.shares.is_yielding(namespace),
            Some(_) => false,
        }
    }

    /// Whether there is such a Service, at present.
    #[must_use]
    pub fn has_service(&self, key: &Key) -> bool {
        self.objects.services.get(key).is_some_and(|entry| entry.service.is_some())
    }

    /// The addresses of a Service, at present.
    #[must_use]
    pub fn own_addresses(&self, key: &Key) -> &[IpAddr] {
        self.objects.services.get(key).map_or(&[], own_addresses)
    }

    /// The addresses of a Service's ready endpoints, at present.
    pub fn endpoints(&self, key: &Key) -> impl Iterator<Item = IpAddr> {
        self.objects.services.get(key).into_iter().flat_map(|e| e.endpoints().map(|(_, endpoint)| endpoint.address))
    }
}
