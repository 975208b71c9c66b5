//! What a commit says: from what changed to changes of names, in an order in which the maps may follow.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::alias::{self, Steps};
use super::model::{Entry, Service};
use super::nodes::below;
use super::plan::{Holds, Plan, endpoints_between, plan};
use super::reverse::{Pointer, own_addresses};
use super::share::{Decision, Part, Parts, Size};
use super::spec::Key;
use super::{Cluster, Pending, size};
use crate::zone::change::{Change, order};
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// What is committed at once.
struct Batch {
    /// Whether it is the first one.
    is_first: bool,
    /// Services as they were before.
    entries: HashMap<Arc<Key>, Entry>,
    /// Namespaces that came or went, and whether they were there.
    namespaces: HashMap<Box<str>, bool>,
    /// Addresses whose names may change, and whether they may be in the maps.
    addresses: HashMap<IpAddr, bool>,
    /// What yielded before.
    was: Decision,
    /// Changes by which nothing is said any more of names that are about to go.
    marks: Vec<Change>,
}

impl Cluster {
    /// What has to change in the maps since the last commit, one change a name, in an order that lets every question's
    /// answer be that of before or after, or pass. Where room is scarce it is but what makes some, and [`Self::rest`] has
    /// the remainder.
    pub fn commit(&mut self) -> Vec<Change> {
        self.hide();
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
            addresses: HashMap::new(),
            was: Decision::default(),
            marks: Vec::new(),
        };
        let out = self.count(&mut batch);
        batch.was = self.shares.decide();
        if let Some(mut out) = out.filter(|_| batch.was.is_empty()) {
            let gone = out.iter().filter(|change| matches!(change, Change::Remove(_))).count();
            // What comes is there before what goes is gone.
            if self.shares.held().names.saturating_add(gone) <= self.shares.capacity().names {
                self.note_withheld(batch.addresses.into_keys());
                order(&mut out);
                return out;
            }
        }
        self.make_room(batch)
    }

    /// What is to be done after all that the last commit said.
    pub fn rest(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.rest)
    }

    /// Counts what changed, and says which changes of names that makes while all fit and nothing yields. Else nothing is said:
    /// that may be far more than fits into memory.
    fn count(&mut self, batch: &mut Batch) -> Option<Vec<Change>> {
        let mut out = Some(self.frame(batch)).filter(|_| self.shares.has_room());
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
            out = out.filter(|_| self.shares.has_room());
            let Some(out) = &mut out else { continue };
            if self.changes_of(&mut steps, key, [&before, &after], [Parts::default(); 2], out) {
                causes.push(Key::clone(key));
            }
        }
        self.keep.veil(&self.reverse, &mut batch.addresses);
        if let Some(out) = &mut out {
            self.follow(&mut steps, batch, causes, out);
        }
        out
    }

    /// The changes of names by what changed and by what yields no more or from now on: first marks, so that nothing is said
    /// of names that go, then these, and in the end what comes, before marks are taken away.
    fn make_room(&mut self, mut batch: Batch) -> Vec<Change> {
        for (key, was) in &batch.was.objects {
            let Some(entry) = self.objects.services.get_key_value(key) else { continue };
            if was.has(Part::Pointers) != self.shares.yields(key).has(Part::Pointers) {
                let own = own_addresses(entry.1).iter().copied();
                for address in own.chain(entry.1.endpoints().map(|(_, endpoint)| endpoint.address)) {
                    batch.addresses.entry(address).or_insert(true);
                }
            }
            batch.entries.entry(Arc::clone(entry.0)).or_insert_with(|| entry.1.clone());
        }
        self.note_withheld(batch.addresses.keys().copied());
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
        for (address, is_held) in &batch.addresses {
            let pointer = self.pointer(*address);
            if pointer.is_none() && !is_held {
                continue;
            }
            let reverse = self.renderer.reverse(*address, pointer.as_ref());
            out.extend(reverse.and_then(|(name, node)| self.renderer.change(name, node)));
        }
    }

    /// What an address stands for, unless that yields for all whom it counts to, or others may stand beside it.
    pub(super) fn pointer(&self, address: IpAddr) -> Option<Pointer<'_>> {
        let mut charged = self.reverse.charged(address);
        let yields = self.shares.has_yields() && charged.all(|key| self.shares.yields(key).has(Part::Pointers));
        let is_certain = |p: &Pointer<'_>| matches!(p, Pointer::Service(_)) || !self.keep.is_veiled(address);
        self.reverse.get(address).filter(|p| !yields && is_certain(p))
    }

    /// Takes note of which of these addresses' names yield now.
    pub(super) fn note_withheld(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if !self.shares.has_yields() && self.withheld.is_empty() {
            return;
        }
        for address in addresses {
            let is_withheld = self.reverse.get(address).is_some() && self.pointer(address).is_none();
            self.withheld.set(address, is_withheld);
        }
    }

    /// What changed at and below a Service's name, by what it has and by what of that yields; returns whether what it has did.
    pub(super) fn changes_of(
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
    pub(super) fn held(
        &self,
        steps: &mut Steps,
        key: &Key,
        base: &Name,
        name: &Name,
        holds: &Holds,
        yields: Parts,
    ) -> Node {
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
}
