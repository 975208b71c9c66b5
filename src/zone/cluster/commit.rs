//! Commits: turn the changes of objects since the last commit into changes of names, in an order in which they can be applied to
//! the maps one by one.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::alias::{self, Resolver};
use super::model::{Entry, Service};
use super::nodes::below;
use super::plan::{Content, Plan, endpoints_between, has_same_names, plan};
use super::reverse::{Pointer, own_addresses};
use super::share::{NameGroup, NameGroups, ShareDecision, Size};
use super::spec::Key;
use super::{Cluster, PendingEntry, Take, WaitingNamespace, gate, size};
use crate::zone::change::{Change, order};
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// Unchanged endpoints and ports of a Service count as 1/`UNCHANGED_PART` of the work of changed ones: they are read, but no
/// names are rendered for them.
const UNCHANGED_PART: usize = 16;

/// The changes of one commit.
struct Batch {
    /// Whether it is the first commit.
    is_first: bool,
    /// The state at the last commit of the Services that may change.
    entries: HashMap<Arc<Key>, Entry>,
    /// Namespaces that were created or deleted, and whether they existed at the last commit.
    namespaces: HashMap<Box<str>, bool>,
    /// Addresses whose reverse names may change, and whether these may be in the maps.
    addresses: HashMap<IpAddr, bool>,
    /// The changes of withheld name groups, with the state before.
    decision: ShareDecision,
    /// Changes that remove NXDOMAIN for names below, applied before these names are removed.
    withdrawals: Vec<Change>,
}

impl Cluster {
    /// The changes of the maps since the last commit, at most one for each name. After each of them every query gets its old
    /// or its new answer or passes. If the maps may lack room, the list has only the changes that make room; [`Self::rest`]
    /// returns the others.
    pub fn commit(&mut self) -> Vec<Change> {
        self.commit_some(Take::All)
    }

    /// Like [`Self::commit`], but takes only some of the changes. Namespaces that were created or deleted are always committed,
    /// with all their objects, and the first commit takes all changes. The others wait ([`Self::waiting`]).
    pub fn commit_some(&mut self, take: Take) -> Vec<Change> {
        self.hide();
        let is_first = !std::mem::replace(&mut self.begun, true);
        let changed = std::mem::take(&mut self.pending.namespaces).into_iter();
        let is_there = |name: &str| self.objects.namespaces.contains(name);
        let namespaces: HashMap<Box<str>, bool> = changed.filter(|(name, before)| *before != is_there(name)).collect();
        if !is_first {
            self.add_dependents(&namespaces);
        }
        let mut entries = self.take(if is_first { Take::All } else { take }, &namespaces);
        for (namespace, was_there) in &namespaces {
            let size = |is: bool| if is { size::namespace(namespace, &self.renderer.config) } else { Size::default() };
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
            decision: ShareDecision::default(),
            withdrawals: Vec::new(),
        };
        let out = self.count(&mut batch);
        batch.decision = self.shares.decide();
        if let Some(mut out) = out.filter(|_| batch.decision.is_empty()) {
            let gone = out.iter().filter(|change| matches!(change, Change::Remove(_))).count();
            // Names are added before others are removed, so the maps hold both for a moment.
            if self.shares.held().names.saturating_add(gone) <= self.shares.capacity().names {
                self.update_withheld(batch.addresses.into_keys());
                order(&mut out);
                return out;
            }
        }
        self.make_room(batch)
    }

    /// Adds the aliases that lead to changed names, directly or through other aliases. They are resolved with the objects as
    /// they are at present, committed or not, so an alias waits only for its own namespace.
    fn add_dependents(&mut self, namespaces: &HashMap<Box<str>, bool>) {
        let mut causes: Vec<(Arc<Key>, Instant)> = std::mem::take(&mut self.pending.causes).into_iter().collect();
        let arrived = self.pending.arrived.unwrap_or_else(Instant::now);
        for namespace in namespaces.keys() {
            causes.push((Arc::new(Key::new(namespace, "")), arrived));
            causes.extend(self.objects.in_namespace(namespace).map(|(key, _)| (Arc::clone(key), arrived)));
        }
        // The cause that has waited longest is popped first: an alias waits since that time.
        causes.sort_unstable_by_key(|(_, since)| Reverse(*since));
        let mut done: HashSet<Arc<Key>> = HashSet::new();
        while let Some((cause, since)) = causes.pop() {
            for key in self.dependents.get(&*cause).into_iter().flatten() {
                if !done.insert(Arc::clone(key)) {
                    continue;
                }
                causes.push((Arc::clone(key), since));
                let Some(entry) = self.objects.services.get(key) else { continue };
                self.pending.entries.entry(Arc::clone(key)).or_insert_with(|| PendingEntry {
                    entry: entry.clone(),
                    since: Some(since),
                    changed: 0,
                });
            }
        }
    }

    /// Takes changes out of the pending ones: all of `namespaces`, and those that `take` selects.
    fn take(&mut self, take: Take, namespaces: &HashMap<Box<str>, bool>) -> HashMap<Arc<Key>, Entry> {
        let (Take::Least(most) | Take::Oldest(most)) = take else {
            let entries = std::mem::take(&mut self.pending.entries);
            self.spent = 0;
            return entries.into_iter().map(|(key, pending)| (key, pending.entry)).collect();
        };
        let work = |key: &Key, pending: &PendingEntry| {
            let current = self.objects.services.get(key);
            let items = current.map_or(0, |entry| entry.items) + pending.entry.items;
            // A small change may change all names, such as one from headless to ExternalName.
            let is_small = current.is_some_and(|current| has_same_names(&pending.entry, current));
            1 + if is_small { pending.changed.min(items) } else { items } + items / UNCHANGED_PART
        };
        let mut spent = 0;
        let mut waiting: Vec<(&Arc<Key>, &PendingEntry, usize)> = Vec::new();
        let mut taken: Vec<Arc<Key>> = Vec::new();
        let mut of_namespace: HashMap<&str, usize> = HashMap::new();
        for (key, pending) in &self.pending.entries {
            let work = work(key, pending);
            if namespaces.contains_key(&key.namespace) {
                spent += work;
                taken.push(Arc::clone(key));
            } else {
                waiting.push((key, pending, work));
                *of_namespace.entry(&key.namespace).or_default() += work;
            }
        }
        let all: usize = of_namespace.values().sum();
        if spent + all > most {
            let work = |key: &Key| of_namespace.get(&*key.namespace);
            match take {
                Take::Oldest(_) => waiting.sort_unstable_by(|(a, x, _), (b, y, _)| (x.since, a).cmp(&(y.since, b))),
                _ => waiting.sort_unstable_by(|(a, x, _), (b, y, _)| {
                    (work(a), &a.namespace, x.since, a).cmp(&(work(b), &b.namespace, y.since, b))
                }),
            }
        }
        for (key, _, work) in waiting {
            let is_first = matches!(take, Take::Oldest(_)) && taken.is_empty();
            if is_first || spent + work <= most {
                spent += work;
                taken.push(Arc::clone(key));
            }
        }
        self.spent = spent;
        let entries = taken.into_iter().filter_map(|key| self.pending.entries.remove_entry(&key));
        entries.map(|(key, pending)| (key, pending.entry)).collect()
    }

    /// The work of the last commit, in endpoints and ports; 0 if it took all changes.
    #[must_use]
    pub const fn spent(&self) -> usize {
        self.spent
    }

    /// Namespaces with changes that wait for a commit.
    #[must_use]
    pub fn waiting(&self) -> Vec<WaitingNamespace> {
        let mut since: HashMap<&str, Option<Instant>> = HashMap::new();
        for (key, pending) in &self.pending.entries {
            // None sorts before any time.
            let first = since.entry(&key.namespace).or_insert(pending.since);
            *first = pending.since.min(*first);
        }
        let waiting = |(namespace, since): (&str, _)| WaitingNamespace {
            namespace: namespace.into(),
            gate: gate::of(namespace),
            since,
        };
        since.into_iter().map(waiting).collect()
    }

    /// Treats all changes that wait as late: the API server may have made them long before they arrived.
    pub fn set_late(&mut self) {
        self.pending.entries.values_mut().for_each(|pending| pending.since = None);
    }

    /// A Service's entry as of the last commit, with its key.
    fn committed_with_key(&self, key: &Key) -> Option<(&Arc<Key>, &Entry)> {
        let pending = self.pending.entries.get_key_value(key).map(|(key, pending)| (key, &pending.entry));
        pending.or_else(|| self.objects.services.get_key_value(key))
    }

    /// The changes to apply after those that the last commit returned.
    pub fn rest(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.rest)
    }

    /// Counts the sizes of the changed names. Returns the changes of names if all names fit and none is withheld; None
    /// otherwise, since the changes may be more than fits into memory.
    fn count(&mut self, batch: &mut Batch) -> Option<Vec<Change>> {
        let mut out = Some(self.fixed_changes(batch)).filter(|_| self.shares.has_room());
        let mut resolver = Resolver::default();
        let none = Entry::default();
        for (key, old) in &batch.entries {
            let new = self.objects.services.get(key).unwrap_or(&none);
            let config = &self.renderer.config;
            let pointers = self.reverse.update(key, [old, new], config, &mut self.shares, &mut batch.addresses);
            let [before, after] = self.plans(batch, key, old, new);
            let size = |entry, plan, pointers| {
                let mut sizes = size::service(key, entry, plan, config);
                sizes[NameGroup::Pointers as usize] = pointers;
                sizes
            };
            let sizes = [size(old, &before, pointers[0]), size(new, &after, pointers[1])];
            self.shares.count(key, sizes[0], sizes[1]);
            out = out.filter(|_| self.shares.has_room());
            let Some(out) = &mut out else { continue };
            self.changes_of(&mut resolver, key, [&before, &after], [NameGroups::default(); 2], out);
        }
        self.inventory.update_uncertain(&self.reverse, &mut batch.addresses);
        if let Some(out) = &mut out {
            self.reverse_changes(batch, out);
        }
        out
    }

    /// The changes of names if the maps lack room: those of changed objects, and those of name groups that became withheld or
    /// are no longer withheld. Returns the changes that end negative answers for names to be removed, and then the removals.
    /// [`Self::rest`] gets the names that are added, and then the changes that restore negative answers.
    fn make_room(&mut self, mut batch: Batch) -> Vec<Change> {
        for (key, was) in &batch.decision.services {
            let Some((key, entry)) = self.committed_with_key(key) else { continue };
            if was.has(NameGroup::Pointers) != self.shares.withheld(key).has(NameGroup::Pointers) {
                let own = own_addresses(entry).iter().copied();
                for address in own.chain(entry.endpoints().map(|(_, endpoint)| endpoint.address)) {
                    batch.addresses.entry(address).or_insert(true);
                }
            }
            batch.entries.entry(Arc::clone(key)).or_insert_with(|| entry.clone());
        }
        self.update_withheld(batch.addresses.keys().copied());
        let mut out = self.fixed_changes(&batch);
        for namespace in batch.decision.namespaces.iter().filter(|n| self.objects.namespaces.contains(&**n)) {
            let passes_absent_names = self.shares.passes_absent_names(namespace);
            let nodes = self.renderer.namespace(namespace, passes_absent_names).into_iter();
            let changes: Vec<Change> = nodes.filter_map(|(n, node)| self.renderer.change(n, Some(node))).collect();
            if passes_absent_names && !batch.namespaces.contains_key(namespace) {
                batch.withdrawals.extend(changes.iter().cloned());
            }
            out.retain(|change| !changes.iter().any(|c| c.name() == change.name()));
            out.extend(changes);
        }
        let mut resolver = Resolver::default();
        let mut withdrawals = Vec::new();
        let none = Entry::default();
        for (key, old) in &batch.entries {
            // A waiting entry keeps its committed objects; only its withheld name groups may differ.
            let new = self.committed(key).unwrap_or(&none);
            let [before, after] = self.plans(&batch, key, old, new);
            let is = self.shares.withheld(key);
            let withheld = [batch.decision.services.get(key).copied().unwrap_or(is), is];
            withdrawals.extend(self.withdraw_negatives(key, [&before, &after], withheld));
            self.changes_of(&mut resolver, key, [&before, &after], withheld, &mut out);
        }
        batch.withdrawals.append(&mut withdrawals);
        self.reverse_changes(&batch, &mut out);
        let (mut first, mut rest): (Vec<_>, Vec<_>) =
            out.into_iter().partition(|change| matches!(change, Change::Remove(_)));
        first.append(&mut batch.withdrawals);
        order(&mut first);
        order(&mut rest);
        self.rest = rest;
        first
    }

    /// The changes of the names that every zone has at the first commit, and those of the names of namespaces that were
    /// created or deleted.
    fn fixed_changes(&self, batch: &Batch) -> Vec<Change> {
        let mut out = Vec::new();
        if batch.is_first {
            out.extend(
                self.renderer.fixed_names().into_iter().filter_map(|(n, node)| self.renderer.change(n, Some(node))),
            );
            let alone = self.renderer.pass_names().filter(|name| self.own_node(name).is_none());
            out.extend(alone.filter_map(|name| self.renderer.change(name.clone(), None)));
        }
        for (namespace, was_there) in &batch.namespaces {
            for (name, node) in self.renderer.namespace(namespace, self.shares.passes_absent_names(namespace)) {
                out.extend(self.renderer.change(name, (!was_there).then_some(node)));
            }
        }
        out
    }

    /// A Service's plans before and after the commit, with only those endpoints that may differ.
    fn plans(&self, batch: &Batch, key: &Arc<Key>, old: &Entry, new: &Entry) -> [Plan; 2] {
        let now = self.objects.namespaces.contains(&key.namespace);
        let before = batch.namespaces.get(&key.namespace).copied().unwrap_or(now);
        let is_whole = now != before || batch.decision.services.contains_key(key);
        let labels = if is_whole { None } else { endpoints_between(old, new) };
        let plan = |entry, there| if there { plan(entry, labels.as_ref()) } else { Plan::new() };
        [plan(old, before), plan(new, now)]
    }

    /// Appends the changes of reverse names.
    fn reverse_changes(&self, batch: &Batch, out: &mut Vec<Change>) {
        for (address, is_held) in &batch.addresses {
            let pointer = self.pointer(*address);
            if pointer.is_none() && !is_held {
                continue;
            }
            let reverse = self.renderer.reverse(*address, pointer.as_ref());
            out.extend(reverse.and_then(|(name, node)| self.renderer.change(name, node)));
        }
    }

    /// The targets of an address' reverse name. None if all Services that are charged for it have it withheld, or if a hidden
    /// object may list the address, too.
    pub(super) fn pointer(&self, address: IpAddr) -> Option<Pointer<'_>> {
        let mut charged = self.reverse.charged(address);
        let withheld =
            self.shares.has_withheld() && charged.all(|key| self.shares.withheld(key).has(NameGroup::Pointers));
        let is_certain = |p: &Pointer<'_>| matches!(p, Pointer::Service(_)) || !self.inventory.is_uncertain(address);
        self.reverse.get(address).filter(|p| !withheld && is_certain(p))
    }

    /// Updates the set of withheld reverse names for these addresses.
    pub(super) fn update_withheld(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        if !self.shares.has_withheld() && self.withheld.is_empty() {
            return;
        }
        for address in addresses {
            let is_withheld = self.reverse.get(address).is_some() && self.pointer(address).is_none();
            self.withheld.set(address, is_withheld);
        }
    }

    /// Appends the changes of a Service's name and the names below it, between two plans and their withheld name groups.
    pub(super) fn changes_of(
        &self,
        resolver: &mut Resolver,
        key: &Key,
        [before, after]: [&Plan; 2],
        withheld: [NameGroups; 2],
        out: &mut Vec<Change>,
    ) {
        let Some(base) = self.renderer.service_name(key) else { return };
        let [was, is] = withheld;
        for (relative, content) in after {
            let group = NameGroup::of(relative, content);
            // An alias may resolve differently although it did not change itself.
            let differs = *content == Content::Alias || before.get(relative) != Some(content);
            let restated = group == NameGroup::Service && was.has(NameGroup::Endpoints) != is.has(NameGroup::Endpoints);
            if is.has(group) || !(differs || restated || was.has(group)) {
                continue;
            }
            if let Some(name) = below(&base, relative) {
                let node = self.content_node(resolver, key, &base, &name, content, is);
                out.extend(self.renderer.change(name, Some(node)));
            }
        }
        for (relative, content) in before {
            let group = NameGroup::of(relative, content);
            let is_gone = !after.contains_key(relative);
            if (is_gone || is.has(group)) && !was.has(group) {
                out.extend(below(&base, relative).and_then(|name| self.renderer.change(name, None)));
            }
        }
    }

    /// The change that makes names below a Service's own name pass instead of getting NXDOMAIN. None if these names keep
    /// NXDOMAIN or did not get it. Also None if the Service's own name is added or removed.
    fn withdraw_negatives(&self, key: &Key, [before, after]: [&Plan; 2], [was, is]: [NameGroups; 2]) -> Option<Change> {
        let has_nxdomain = |plan: &Plan, withheld: NameGroups| match plan.get("") {
            Some(Content::Host(host)) => host.has_nxdomain && !withheld.has(NameGroup::Endpoints),
            Some(Content::Alias) => true,
            _ => false,
        };
        let was_alias = before.get("") == Some(&Content::Alias);
        let is_withdrawn = was_alias && after.get("") != Some(&Content::Alias)
            || has_nxdomain(before, was) && !has_nxdomain(after, is);
        let stays = after.contains_key("") && !was.has(NameGroup::Service) && !is.has(NameGroup::Service);
        let content = before.get("").filter(|_| stays && is_withdrawn)?;
        let base = self.renderer.service_name(key)?;
        let node = if was_alias {
            // The target of the alias is no longer known.
            Node::pass(ZoneId::Cluster)
        } else {
            let mut withheld = was;
            withheld.insert(NameGroup::Endpoints);
            self.content_node(&mut Resolver::default(), key, &base, &base, content, withheld)
        };
        self.renderer.change(base, Some(node))
    }

    /// The node for the content of a Service's name, or of a name below it.
    pub(super) fn content_node(
        &self,
        resolver: &mut Resolver,
        key: &Key,
        base: &Name,
        name: &Name,
        content: &Content,
        withheld: NameGroups,
    ) -> Node {
        let gate = gate::of(&key.namespace);
        match content {
            Content::Host(host) => {
                self.renderer.host(gate, (name, base), host, host.has_nxdomain && !withheld.has(NameGroup::Endpoints))
            }
            Content::Pass => Node::pass(ZoneId::Cluster),
            Content::Alias => match self.committed(key).and_then(|e| e.service.as_deref()) {
                Some(Service::External(target)) => {
                    let chain = alias::follow(resolver, &self.objects, &self.renderer.config, name, target);
                    self.renderer.alias(gate, name, target, &chain)
                }
                _ => Node::pass(ZoneId::Cluster),
            },
        }
    }
}
