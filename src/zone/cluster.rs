//! The cluster's zone: from Services, EndpointSlices and namespaces to the nodes of their names, as CoreDNS' kubernetes
//! plugin answers for them (with `pods insecure`).
//!
//! [`spec`] is what comes in and [`model`] what is kept of it. [`plan`] says which names a Service has; [`alias`] follows
//! ExternalNames and [`reverse`] addresses; [`nodes`] renders. [`Cluster`] is the index over it: changes go in, and
//! [`Cluster::commit`] says what that changed, in the order in which maps may follow.
//!
//! A name without a node gets what the closest node above says of such names: that they don't exist, or nothing, and then
//! they pass. So whatever is in doubt is under a node that says nothing.
//!
//! A commit of many changes takes a while, some ten microseconds a name, and needs nothing but the index: it can be made in
//! any thread.

mod alias;
mod model;
mod nodes;
mod plan;
mod reverse;
pub mod spec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use self::model::{Entry, Service, Slice, labels_in};
use self::nodes::{Renderer, below};
use self::plan::{Holds, Plan, Relative, endpoints_between, plan};
use self::reverse::Reverse;
use self::spec::{Key, ServiceSpec, SliceSpec};
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

/// What changed since the last commit, as it was then.
#[derive(Default)]
struct Pending {
    entries: HashMap<Arc<Key>, Entry>,
    namespaces: HashMap<Box<str>, bool>,
}

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
    pending: Pending,
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
            pending: Pending::default(),
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

    /// A namespace is there.
    pub fn apply_namespace(&mut self, name: &str) {
        if self.objects.namespaces.insert(name.into()) {
            self.pending.namespaces.entry(name.into()).or_insert(false);
        }
    }

    /// A namespace is gone.
    pub fn delete_namespace(&mut self, name: &str) {
        if self.objects.namespaces.remove(name) {
            self.pending.namespaces.entry(name.into()).or_insert(true);
        }
    }

    /// These namespaces are all there are.
    pub fn replace_namespaces(&mut self, names: impl IntoIterator<Item = impl AsRef<str>>) {
        let names: HashSet<Box<str>> = names.into_iter().map(|n| n.as_ref().into()).collect();
        let gone: Vec<Box<str>> = self.objects.namespaces.difference(&names).cloned().collect();
        gone.iter().for_each(|n| self.delete_namespace(n));
        names.iter().for_each(|n| self.apply_namespace(n));
    }

    /// A Service is there, and is like this.
    pub fn apply_service(&mut self, key: Key, spec: &ServiceSpec) {
        let service = Service::new(spec);
        if self.objects.services.get(&key).is_some_and(|e| e.service.as_deref() == Some(&service)) {
            return;
        }
        self.change_entry(key, |entry| entry.service = Some(Arc::new(service)));
    }

    /// A Service is gone.
    pub fn delete_service(&mut self, key: &Key) {
        if self.objects.services.get(key).is_some_and(|e| e.service.is_some()) {
            self.change_entry(key.clone(), |entry| entry.service = None);
        }
    }

    /// These Services are all there are.
    pub fn replace_services(&mut self, services: impl IntoIterator<Item = (Key, ServiceSpec)>) {
        let mut seen = HashSet::new();
        for (key, spec) in services {
            self.apply_service(key.clone(), &spec);
            seen.insert(key);
        }
        let known = self.objects.services.iter().filter(|(_, e)| e.service.is_some());
        let gone: Vec<Arc<Key>> = known.map(|(key, _)| key).filter(|k| !seen.contains(&***k)).cloned().collect();
        gone.iter().for_each(|key| self.delete_service(key));
    }

    /// An EndpointSlice is there, and is like this.
    pub fn apply_slice(&mut self, key: Key, spec: &SliceSpec) {
        let Some(service) = spec.service.as_deref().filter(|s| !s.is_empty()) else {
            self.delete_slice(&key);
            return;
        };
        let slice = Arc::new(Slice::new(spec));
        let of = Key::new(&key.namespace, service);
        if self.slices.get(&key).is_some_and(|(old_of, old)| **old_of == of && *old == slice) {
            return;
        }
        self.delete_slice(&key);
        let of = self.change_entry(of, |entry| entry.slices.push(Arc::clone(&slice)));
        self.slices.insert(key, (of, slice));
    }

    /// An EndpointSlice is gone.
    pub fn delete_slice(&mut self, key: &Key) {
        if let Some((of, slice)) = self.slices.remove(key) {
            self.change_entry(Key::clone(&of), |entry| entry.slices.retain(|s| !Arc::ptr_eq(s, &slice)));
        }
    }

    /// These EndpointSlices are all there are.
    pub fn replace_slices(&mut self, slices: impl IntoIterator<Item = (Key, SliceSpec)>) {
        let mut seen = HashSet::new();
        for (key, spec) in slices {
            self.apply_slice(key.clone(), &spec);
            seen.insert(key);
        }
        let gone: Vec<Key> = self.slices.keys().filter(|k| !seen.contains(k)).cloned().collect();
        gone.iter().for_each(|key| self.delete_slice(key));
    }

    /// Changes what is known of a Service's name, and keeps what was known before for the commit.
    fn change_entry(&mut self, key: Key, change: impl FnOnce(&mut Entry)) -> Arc<Key> {
        let (key, mut entry) =
            self.objects.services.remove_entry(&key).unwrap_or_else(|| (Arc::new(key), Entry::default()));
        self.pending.entries.entry(Arc::clone(&key)).or_insert_with(|| entry.clone());
        let zone = &self.renderer.settings.zone;
        let before = entry.depends_on(zone);
        change(&mut entry);
        let after = entry.depends_on(zone);
        if before != after {
            if let Some(before) = before {
                remove_dependent(&mut self.dependents, &before, &key);
            }
            if let Some(after) = after {
                self.dependents.entry(after).or_default().insert(Arc::clone(&key));
            }
        }
        if !entry.is_empty() {
            self.objects.services.insert(Arc::clone(&key), entry);
        }
        key
    }

    /// What has to change in the maps since the last commit, one change a name, in an order that lets every question's
    /// answer be that of before or after.
    pub fn commit(&mut self) -> Vec<Change> {
        let Pending { mut entries, namespaces } = std::mem::take(&mut self.pending);
        let mut out = Vec::new();
        if !self.begun {
            self.begun = true;
            out.extend(
                self.renderer.structure().into_iter().filter_map(|(n, node)| self.renderer.change(n, Some(node))),
            );
            let alone = self.renderer.extras().filter(|name| self.own_node(name).is_none());
            out.extend(alone.filter_map(|name| self.renderer.change(name.clone(), None)));
        }
        // Names whose answers are not what they were, as those that depend on them know them.
        let mut causes: Vec<Key> = Vec::new();
        for (namespace, before) in &namespaces {
            let now = self.objects.namespaces.contains(namespace);
            if now == *before {
                continue;
            }
            for (name, node) in self.renderer.namespace(namespace) {
                out.extend(self.renderer.change(name, now.then_some(node)));
            }
            for (key, entry) in self.objects.in_namespace(namespace) {
                entries.entry(Arc::clone(key)).or_insert_with(|| entry.clone());
            }
            causes.push(Key::new(namespace, ""));
        }

        let mut addresses = HashSet::new();
        let none = Entry::default();
        for (key, old) in &entries {
            let new = self.objects.services.get(key).unwrap_or(&none);
            self.reverse.update(key, old, new, &mut addresses);
            let now = self.objects.namespaces.contains(&key.namespace);
            let before = namespaces.get(&key.namespace).copied().unwrap_or(now);
            let labels = if now == before { endpoints_between(old, new) } else { None };
            let plan = |entry, there| if there { plan(entry, labels.as_ref()) } else { Plan::new() };
            if self.changes_of(key, &plan(old, before), &plan(new, now), &mut out) {
                causes.push(Key::clone(key));
            }
        }
        let mut done: HashSet<Arc<Key>> = entries.into_keys().collect();
        while let Some(cause) = causes.pop() {
            for key in self.dependents.get(&cause).into_iter().flatten() {
                if done.insert(Arc::clone(key)) {
                    causes.push(Key::clone(key));
                    if self.objects.namespaces.contains(&key.namespace) {
                        let changed =
                            self.renderer.service_name(key).map(|n| (n.clone(), self.held(key, &n, &n, &Holds::Alias)));
                        out.extend(changed.and_then(|(name, node)| self.renderer.change(name, Some(node))));
                    }
                }
            }
        }
        for address in addresses {
            let reverse = self.renderer.reverse(address, self.reverse.get(address).as_ref());
            out.extend(reverse.and_then(|(name, node)| self.renderer.change(name, node)));
        }
        order(&mut out);
        out
    }

    /// What changed at and below a Service's name; returns whether something did.
    fn changes_of(&self, key: &Key, before: &Plan, after: &Plan, out: &mut Vec<Change>) -> bool {
        let Some(base) = self.renderer.service_name(key) else { return false };
        // An alias may be the same and lead elsewhere.
        let differs =
            |relative: &Relative, holds: &Holds| *holds == Holds::Alias || before.get(relative) != Some(holds);
        let mut changed = false;
        for (relative, holds) in after.iter().filter(|(relative, holds)| differs(relative, holds)) {
            changed = true;
            if let Some(name) = below(&base, relative) {
                let node = self.held(key, &base, &name, holds);
                out.extend(self.renderer.change(name, Some(node)));
            }
        }
        for relative in before.keys().filter(|relative| !after.contains_key(*relative)) {
            changed = true;
            out.extend(below(&base, relative).and_then(|name| self.renderer.change(name, None)));
        }
        changed
    }

    /// The node of a Service's name, or of one below it.
    fn held(&self, key: &Key, base: &Name, name: &Name, holds: &Holds) -> Node {
        match holds {
            Holds::Host(host) => self.renderer.host(name, base, host),
            Holds::Pass => Node::pass(ZoneId::Cluster),
            Holds::Alias => match self.objects.services.get(key).and_then(|e| e.service.as_deref()) {
                Some(Service::External(target)) => {
                    let chain = alias::follow(&self.objects, &self.renderer.settings, name, target);
                    self.renderer.alias(name, target, &chain)
                }
                _ => Node::pass(ZoneId::Cluster),
            },
        }
    }

    /// The node that a name has by the API, PassNames aside.
    fn own_node(&self, name: &Name) -> Option<Node> {
        let Some(labels) = labels_in(name, &self.renderer.settings.zone) else {
            let address = reverse::address_of(name)?;
            return Some(self.renderer.pointer(name, address, &self.reverse.get(address)?));
        };
        let named = |nodes: Vec<(Name, Node)>| nodes.into_iter().find(|(n, _)| n == name).map(|(_, node)| node);
        match labels[..] {
            [] | [_] => named(self.renderer.structure()),
            [namespace, "svc" | "pod"] => {
                self.objects.namespaces.contains(namespace).then(|| named(self.renderer.namespace(namespace)))?
            }
            [ref relative @ .., service, namespace, "svc"] if self.objects.namespaces.contains(namespace) => {
                let key = Key::new(namespace, service);
                let plan = plan(self.objects.services.get(&key)?, None);
                let base = self.renderer.service_name(&key)?;
                plan.get(&*relative.join(".")).map(|holds| self.held(&key, &base, name, holds))
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
            self.renderer.namespace(namespace).into_iter().for_each(|(name, node)| add(name, node));
        }
        for address in self.reverse.addresses() {
            if let Some((name, Some(node))) = self.renderer.reverse(address, self.reverse.get(address).as_ref()) {
                add(name, node);
            }
        }
        for (key, entry) in &self.objects.services {
            if self.objects.namespaces.contains(&key.namespace) {
                self.changes_of(key, &Plan::new(), &plan(entry, None), &mut out);
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

    /// Other settings, from now on: what has to change, with what a commit would have said before. Before the first commit
    /// that is what was announced.
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
        let mut out = self.commit();
        if settings == self.renderer.settings {
            return out;
        }
        let before = self.nodes();
        self.set(settings);
        let mut after = self.nodes();
        let gone = before.keys().filter(|name| !after.contains_key(*name)).cloned().map(Change::Remove);
        let mut changes: Vec<Change> = gone.collect();
        after.retain(|name, node| before.get(name) != Some(node));
        changes.extend(after.into_iter().map(|(name, node)| Change::Put(name, node)));
        order(&mut changes);
        out.append(&mut changes);
        out
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

    /// The addresses of a Service, at present.
    #[must_use]
    pub fn own_addresses(&self, key: &Key) -> &[IpAddr] {
        match self.objects.services.get(key).and_then(|e| e.service.as_deref()) {
            Some(Service::ClusterIp { addresses, .. }) => addresses,
            _ => &[],
        }
    }

    /// The addresses of a Service's ready endpoints, at present.
    pub fn endpoints(&self, key: &Key) -> impl Iterator<Item = IpAddr> {
        self.objects.services.get(key).into_iter().flat_map(|e| e.endpoints().map(|(_, endpoint)| endpoint.address))
    }
}

fn remove_dependent(dependents: &mut HashMap<Key, BTreeSet<Arc<Key>>>, on: &Key, key: &Arc<Key>) {
    if let Some(keys) = dependents.get_mut(on) {
        keys.remove(key);
        if keys.is_empty() {
            dependents.remove(on);
        }
    }
}
