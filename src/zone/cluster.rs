//! The cluster's zone: from Services, EndpointSlices and namespaces to the nodes of their names, as CoreDNS' kubernetes
//! plugin answers for them (with `pods insecure`).
//!
//! [`spec`] is what comes in and [`model`] what is kept of it. [`plan`] says which names a Service has; [`alias`] follows
//! ExternalNames and [`reverse`] addresses; [`nodes`] renders. [`Cluster`] is the index over it: changes go in, and
//! [`Cluster::commit`] says what that changed, in the order in which maps may follow.
//!
//! [`share`] says which names give way where not all of them fit into the maps.
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
pub mod share;
mod size;
pub mod spec;
#[cfg(test)]
mod tests;
mod withheld;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use self::alias::Steps;
use self::model::{Entry, Service, Slice, labels_in};
use self::nodes::{Renderer, below};
use self::plan::{Holds, Plan, endpoints_between, plan};
use self::reverse::{Pointer, Reverse, own_addresses};
use self::share::{Decision, Holder, Part, Parts, Shares, Size, Sizes};
use self::spec::{Key, ServiceSpec, SliceSpec};
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

/// What changed since the last commit, as it was then.
#[derive(Default)]
struct Pending {
    entries: HashMap<Arc<Key>, Entry>,
    namespaces: HashMap<Box<str>, bool>,
}

/// Units that a name of the zone's frame takes at most.
const FRAME_UNITS: usize = 12;

/// What is committed at once.
struct Batch {
    /// Whether it is the first one.
    is_first: bool,
    /// Services as they were before.
    entries: HashMap<Arc<Key>, Entry>,
    /// Namespaces that came or went, and whether they were there.
    namespaces: HashMap<Box<str>, bool>,
    /// Addresses whose names may change.
    addresses: HashSet<IpAddr>,
    /// What yielded before.
    was: Decision,
    /// Changes by which nothing is said any more of names that are about to go.
    marks: Vec<Change>,
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
    /// As of the last commit.
    shares: Shares,
    withheld: Withheld,
    pending: Pending,
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
            pending: Pending::default(),
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
        let slice = Arc::new(Slice::new(spec));
        // Of no Service, its endpoints' names have an empty label. Nobody asks for those, but the addresses lead to them.
        let of = Key::new(&key.namespace, spec.service.as_deref().unwrap_or_default());
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

    /// How much room there is in the maps for the cluster's names, from the next commit on.
    pub fn set_capacity(&mut self, capacity: Size) {
        let frame = self.renderer.structure().len() + self.renderer.extras().count();
        self.shares.set_capacity(capacity.less(Size { names: frame, units: frame * FRAME_UNITS }));
    }

    /// What has to change in the maps since the last commit, one change a name, in an order that lets every question's
    /// answer be that of before or after, or pass. Where room is scarce it is but what makes some, and [`Self::rest`] has
    /// the remainder.
    pub fn commit(&mut self) -> Vec<Change> {
        let Pending { mut entries, namespaces } = std::mem::take(&mut self.pending);
        let is_first = !std::mem::replace(&mut self.begun, true);
        let is_there = |name: &str| self.objects.namespaces.contains(name);
        let changed = namespaces.into_iter().filter(|(name, before)| *before != is_there(name));
        let namespaces: HashMap<Box<str>, bool> = changed.collect();
        for (namespace, was_there) in &namespaces {
            let size =
                |is: bool| if is { size::namespace(namespace, &self.renderer.settings) } else { Size::default() };
            self.shares.count_namespace(namespace, size(*was_there), size(!was_there));
            for (key, entry) in self.objects.in_namespace(namespace) {
                entries.entry(Arc::clone(key)).or_insert_with(|| entry.clone());
            }
        }
        let mut batch = Batch {
            is_first,
            entries,
            namespaces,
            addresses: HashSet::new(),
            was: Decision::default(),
            marks: Vec::new(),
        };
        let mut out = self.count(&mut batch);
        batch.was = self.shares.decide();
        let gone = out.iter().filter(|change| matches!(change, Change::Remove(_))).count();
        // What comes is there before what goes is gone.
        if batch.was.is_empty() && self.shares.held().names.saturating_add(gone) <= self.shares.capacity().names {
            self.note_withheld(batch.addresses);
            order(&mut out);
            return out;
        }
        self.make_room(batch)
    }

    /// What is to be done after all that the last commit said.
    pub fn rest(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.rest)
    }

    /// Counts what changed, and says which changes of names that makes if what yields stays as it is.
    fn count(&mut self, batch: &mut Batch) -> Vec<Change> {
        let mut out = self.frame(batch);
        let mut causes = Vec::new();
        let mut steps = Steps::default();
        let none = Entry::default();
        for (key, old) in &batch.entries {
            let new = self.objects.services.get(key).unwrap_or(&none);
            let settings = &self.renderer.settings;
            let pointers = self.reverse.update(key, [old, new], settings, &mut self.shares, &mut batch.addresses);
            let [before, after] = self.plans(batch, key, old, new);
            let size = |entry, plan, pointers| {
                let mut sizes = size::service(key, entry, plan, settings);
                sizes[Part::Pointers as usize] = pointers;
                sizes
            };
            let sizes = [size(old, &before, pointers[0]), size(new, &after, pointers[1])];
            self.shares.count(key, sizes[0], sizes[1]);
            let yields = self.shares.yields(key);
            if self.changes_of(&mut steps, key, [&before, &after], [yields; 2], &mut out) {
                causes.push(Key::clone(key));
            }
        }
        self.follow(&mut steps, batch, causes, &mut out);
        out
    }

    /// The changes of names by what changed and by what yields no more or from now on: first marks, so that nothing is said
    /// of names that go, then these, and in the end what comes, before marks are taken away.
    fn make_room(&mut self, mut batch: Batch) -> Vec<Change> {
        for key in batch.was.objects.keys() {
            let Some(entry) = self.objects.services.get_key_value(key) else { continue };
            let own = own_addresses(entry.1).iter().copied();
            batch.addresses.extend(own.chain(entry.1.endpoints().map(|(_, endpoint)| endpoint.address)));
            batch.entries.entry(Arc::clone(entry.0)).or_insert_with(|| entry.1.clone());
        }
        self.note_withheld(batch.addresses.iter().copied());
        let mut out = self.frame(&batch);
        for namespace in batch.was.namespaces.iter().filter(|n| self.objects.namespaces.contains(&**n)) {
            let is_open = self.shares.is_open(namespace);
            let nodes = self.renderer.namespace(namespace, is_open).into_iter();
            let changes: Vec<Change> = nodes.filter_map(|(n, node)| self.renderer.change(n, Some(node))).collect();
            let (came, is_new) = (batch.namespaces.contains_key(namespace), &mut batch.marks);
            if is_open && !came {
                is_new.extend(changes.iter().cloned());
            }
            out.retain(|change| !changes.iter().any(|c| c.name() == change.name()));
            out.extend(changes);
        }
        let mut causes = Vec::new();
        let mut steps = Steps::default();
        let mut marks = Vec::new();
        let none = Entry::default();
        for (key, old) in &batch.entries {
            let new = self.objects.services.get(key).unwrap_or(&none);
            let [before, after] = self.plans(&batch, key, old, new);
            let is = self.shares.yields(key);
            let yields = [batch.was.objects.get(key).copied().unwrap_or(is), is];
            marks.extend(self.mark(key, [&before, &after], yields));
            if self.changes_of(&mut steps, key, [&before, &after], yields, &mut out) {
                causes.push(Key::clone(key));
            }
        }
        batch.marks.append(&mut marks);
        self.follow(&mut steps, &batch, causes, &mut out);
        let (mut first, mut rest): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|change| matches!(change, Change::Remove(_)));
        first.append(&mut batch.marks);
        order(&mut first);
        order(&mut rest);
        self.rest = rest;
        first
    }

    /// The zone's frame, where it is new, and names of namespaces that came or went.
    fn frame(&self, batch: &Batch) -> Vec<Change> {
        let mut out = Vec::new();
        if batch.is_first {
            out.extend(
                self.renderer.structure().into_iter().filter_map(|(n, node)| self.renderer.change(n, Some(node))),
            );
            let alone = self.renderer.extras().filter(|name| self.own_node(name).is_none());
            out.extend(alone.filter_map(|name| self.renderer.change(name.clone(), None)));
        }
        for (namespace, was_there) in &batch.namespaces {
            for (name, node) in self.renderer.namespace(namespace, self.shares.is_open(namespace)) {
                out.extend(self.renderer.change(name, (!was_there).then_some(node)));
            }
        }
        out
    }

    /// A Service's names before and after; of endpoints only those that may differ.
    fn plans(&self, batch: &Batch, key: &Arc<Key>, old: &Entry, new: &Entry) -> [Plan; 2] {
        let now = self.objects.namespaces.contains(&key.namespace);
        let before = batch.namespaces.get(&key.namespace).copied().unwrap_or(now);
        let is_whole = now != before || batch.was.objects.contains_key(key);
        let labels = if is_whole { None } else { endpoints_between(old, new) };
        let plan = |entry, there| if there { plan(entry, labels.as_ref()) } else { Plan::new() };
        [plan(old, before), plan(new, now)]
    }

    /// What changes by names whose answers are not what they were, as those that depend on them know them, and by addresses.
    fn follow(&self, steps: &mut Steps, batch: &Batch, mut causes: Vec<Key>, out: &mut Vec<Change>) {
        causes.extend(batch.namespaces.keys().map(|namespace| Key::new(namespace, "")));
        let mut done: HashSet<&Arc<Key>> = batch.entries.keys().collect();
        while let Some(cause) = causes.pop() {
            for key in self.dependents.get(&cause).into_iter().flatten() {
                if !done.insert(key) {
                    continue;
                }
                causes.push(Key::clone(key));
                let is_held = !self.shares.yields(key).has(Part::Service);
                if is_held && self.objects.namespaces.contains(&key.namespace) {
                    let name = self.renderer.service_name(key);
                    let none = Parts::default();
                    let changed = name.map(|n| (n.clone(), self.held(steps, key, &n, &n, &Holds::Alias, none)));
                    out.extend(changed.and_then(|(name, node)| self.renderer.change(name, Some(node))));
                }
            }
        }
        for address in &batch.addresses {
            let reverse = self.renderer.reverse(*address, self.pointer(*address).as_ref());
            out.extend(reverse.and_then(|(name, node)| self.renderer.change(name, node)));
        }
    }

    /// What an address stands for, unless that yields for all whom it counts to.
    fn pointer(&self, address: IpAddr) -> Option<Pointer<'_>> {
        let mut charged = self.reverse.charged(address);
        let yields = self.shares.has_yields() && charged.all(|key| self.shares.yields(key).has(Part::Pointers));
        self.reverse.get(address).filter(|_| !yields)
    }

    /// Takes note of which of these addresses' names yield now.
    fn note_withheld(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if !self.shares.has_yields() && self.withheld.is_empty() {
            return;
        }
        for address in addresses {
            let is_withheld = self.reverse.get(address).is_some() && self.pointer(address).is_none();
            self.withheld.set(address, is_withheld);
        }
    }

    /// What changed at and below a Service's name, by what it has and by what of that yields; returns whether what it has did.
    fn changes_of(
        &self,
        steps: &mut Steps,
        key: &Key,
        [before, after]: [&Plan; 2],
        yields: [Parts; 2],
        out: &mut Vec<Change>,
    ) -> bool {
        let Some(base) = self.renderer.service_name(key) else { return false };
        let [was, is] = yields;
        let mut changed = false;
        for (relative, holds) in after {
            let part = Part::of(relative, holds);
            // An alias may be the same and lead elsewhere.
            let differs = *holds == Holds::Alias || before.get(relative) != Some(holds);
            changed |= differs;
            let restated = part == Part::Service && was.has(Part::Endpoints) != is.has(Part::Endpoints);
            if is.has(part) || !(differs || restated || was.has(part)) {
                continue;
            }
            if let Some(name) = below(&base, relative) {
                let node = self.held(steps, key, &base, &name, holds, is);
                out.extend(self.renderer.change(name, Some(node)));
            }
        }
        for (relative, holds) in before {
            let part = Part::of(relative, holds);
            let is_gone = !after.contains_key(relative);
            changed |= is_gone;
            if (is_gone || is.has(part)) && !was.has(part) {
                out.extend(below(&base, relative).and_then(|name| self.renderer.change(name, None)));
            }
        }
        changed
    }

    /// The change by which a Service's name, which stays, says nothing any more of names below it, if it did and is not to.
    fn mark(&self, key: &Key, [before, after]: [&Plan; 2], [was, is]: [Parts; 2]) -> Option<Change> {
        let is_closed = |plan: &Plan, yields: Parts| match plan.get("") {
            Some(Holds::Host(host)) => host.closed && !yields.has(Part::Endpoints),
            Some(Holds::Alias) => true,
            _ => false,
        };
        let was_alias = before.get("") == Some(&Holds::Alias);
        let opens =
            was_alias && after.get("") != Some(&Holds::Alias) || is_closed(before, was) && !is_closed(after, is);
        let stays = after.contains_key("") && !was.has(Part::Service) && !is.has(Part::Service);
        let holds = before.get("").filter(|_| stays && opens)?;
        let base = self.renderer.service_name(key)?;
        let node = if was_alias {
            // Where it led to is no more.
            Node::pass(ZoneId::Cluster)
        } else {
            let mut open = was;
            open.insert(Part::Endpoints);
            self.held(&mut Steps::default(), key, &base, &base, holds, open)
        };
        self.renderer.change(base, Some(node))
    }

    /// The node of a Service's name, or of one below it.
    fn held(&self, steps: &mut Steps, key: &Key, base: &Name, name: &Name, holds: &Holds, yields: Parts) -> Node {
        match holds {
            Holds::Host(host) => self.renderer.host(name, base, host, host.closed && !yields.has(Part::Endpoints)),
            Holds::Pass => Node::pass(ZoneId::Cluster),
            Holds::Alias => match self.objects.services.get(key).and_then(|e| e.service.as_deref()) {
                Some(Service::External(target)) => {
                    let chain = alias::follow(steps, &self.objects, &self.renderer.settings, name, target);
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
                let plan = plan(self.objects.services.get(&key)?, None);
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
        for (key, entry) in &self.objects.services {
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
        out.append(&mut self.rest());
        if settings == self.renderer.settings {
            return out;
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
        out.append(&mut changes);
        out
    }

    /// Counts everything anew.
    fn count_anew(&mut self) {
        let settings = &self.renderer.settings;
        self.shares.clear();
        self.reverse.count(settings, &mut self.shares);
        for namespace in &self.objects.namespaces {
            self.shares.count_namespace(namespace, Size::default(), size::namespace(namespace, settings));
        }
        for (key, entry) in &self.objects.services {
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
        self.shares.holders(count)
    }

    /// Namespaces that have more than their share, each told of once.
    pub fn newly_yielding(&mut self) -> Vec<Holder> {
        self.shares.newly_yielding()
    }

    /// Whether the cluster may have names below this one that are not in the maps for want of room.
    #[must_use]
    pub fn withholds(&self, name: &Name) -> bool {
        match labels_in(name, &self.renderer.settings.zone).as_deref() {
            None => self.withheld.is_below(name),
            Some([.., namespace, "svc"]) => self.shares.is_yielding(namespace),
            Some(_) => false,
        }
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

fn remove_dependent(dependents: &mut HashMap<Key, BTreeSet<Arc<Key>>>, on: &Key, key: &Arc<Key>) {
    if let Some(keys) = dependents.get_mut(on) {
        keys.remove(key);
        if keys.is_empty() {
            dependents.remove(on);
        }
    }
}
