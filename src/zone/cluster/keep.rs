//! Bounds the memory for the API's objects, so that no tenant can exhaust it.
//!
//! The unit is the *item*: an endpoint or a port counts as one, an endpoint with a hostname and an object itself as two. If all
//! namespaces together have too many items, objects are *hidden*: only the number of their items and the marks of their
//! addresses (`marks`) are kept. Names that depend on a hidden object pass: those of the endpoints of its Service; the
//! Service's own name if the Service is hidden or headless; and the reverse names of addresses that the object may list.
//!
//! Objects are hidden by namespace, as in [`super::share`]. The *level* (max-min fair share) is the largest number of items
//! such that all namespaces fit if each is cut to it. In a namespace above the level the largest objects are hidden until the
//! others fit into it; namespaces below the level keep all their objects. Hidden objects come back if they fit into 31/32 of
//! the limit. Each single Service has a limit, too, since all its names are computed at once.
//!
//! The content of a hidden object is not kept. If the object fits again, it is *wanted*: the daemon relists its kind.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::Cluster;
use super::marks::MarkTable;
use super::model::{Service, Slice};
use super::reverse::Reverse as Addresses;
use super::share::{HYSTERESIS, MARGIN, NamespaceUse, Shares, level};
use super::spec::Key;

/// The items of an object itself. An item takes some 130 bytes. Objects without further items are not hidden, because that
/// would save nothing.
const OBJECT: usize = 2;
/// Items that are kept for each name that the maps can hold. A Service with one port and its slice with one port have six items
/// and at least three names; an endpoint has one or two items and two names.
const ITEMS_PER_NAME: usize = 2;
/// The least number of items that are kept, however small the maps are.
const ITEMS_MIN: usize = 1 << 19;
/// The limit of items for one Service. It doesn't grow with the maps: changes of others wait while one Service is processed.
const SERVICE_ITEMS: usize = 1 << 16;
/// If the limit is exceeded, new items of more than 1/`URGENT_PART` of it force a decision before the next commit.
const URGENT_PART: usize = 16;

/// A kind of objects that may be hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A Service.
    Service,
    /// An EndpointSlice.
    Slice,
}

/// The hidden objects of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenObjects {
    /// The namespace.
    pub namespace: Box<str>,
    /// The items of all its objects.
    pub items: usize,
    /// The items of its hidden objects.
    pub hidden: usize,
    /// The largest hidden object: its kind, its name and its items.
    pub largest: (ObjectKind, Box<str>, usize),
}

/// The most items that are kept: of all objects, and of one Service with its slices.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub all: usize,
    pub service: usize,
}

impl Limits {
    /// The limits for maps with room for `names` names.
    fn of(names: usize) -> Self {
        Self { all: names.saturating_mul(ITEMS_PER_NAME).max(ITEMS_MIN), service: SERVICE_ITEMS }
    }
}

/// The counts of a namespace.
#[derive(Default)]
struct NamespaceItems {
    /// The items of all its objects.
    items: usize,
    /// The items of its hidden objects.
    hidden: usize,
    /// The number of its hidden objects.
    objects: usize,
    /// The largest hidden object at the last decision.
    largest: Option<(ObjectKind, Box<str>, usize)>,
    /// Whether [`Inventory::newly_hidden`] has returned it.
    is_reported: bool,
}

/// The counts of all objects, and of the hidden ones.
pub(super) struct Inventory {
    limits: Limits,
    namespaces: HashMap<Box<str>, NamespaceItems>,
    items: usize,
    hidden: usize,
    /// Services with more items than one Service may have.
    oversized: HashSet<Key>,
    /// Items that arrived since the last decision.
    unreviewed: usize,
    /// Whether objects or limits changed since the last decision.
    is_dirty: bool,
    pub mark_table: MarkTable,
    /// Addresses whose reverse names pass as of the last commit, since a hidden object may list them.
    uncertain: HashSet<IpAddr>,
    /// Hidden objects that may come back, by kind.
    wanted: [HashSet<Key>; 2],
}

/// An object of a namespace or Service that may have too many items.
struct Candidate<'a> {
    kind: ObjectKind,
    key: &'a Key,
    /// The Service to which it belongs.
    of: &'a Key,
    items: usize,
    was_hidden: bool,
    /// Whether it was hidden when the table had no room for its marks, and the table has room now.
    lacks_marks: bool,
    /// The decision.
    is_hidden: bool,
}

/// The objects to hide, and the hidden objects that may come back.
#[derive(Default)]
struct HidingDecision {
    hide: Vec<(ObjectKind, Key)>,
    wanted: [HashSet<Key>; 2],
}

impl Inventory {
    pub(super) fn new() -> Self {
        Self {
            limits: Limits { all: usize::MAX, service: usize::MAX },
            namespaces: HashMap::new(),
            items: 0,
            hidden: 0,
            oversized: HashSet::new(),
            unreviewed: 0,
            is_dirty: false,
            mark_table: MarkTable::default(),
            uncertain: HashSet::new(),
            wanted: Default::default(),
        }
    }

    pub(super) const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.is_dirty = true;
    }

    /// Counts an object, if `is_there`, or removes it from the counts.
    fn count(&mut self, namespace: &str, items: usize, is_hidden: bool, is_there: bool) {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.into(), NamespaceItems::default());
        }
        let Some(counts) = self.namespaces.get_mut(namespace) else { return };
        let hidden = if is_hidden { items } else { 0 };
        let objects = usize::from(is_hidden);
        let change = |sum: &mut usize, by| *sum = if is_there { *sum + by } else { *sum - by };
        change(&mut self.items, OBJECT + items);
        change(&mut self.hidden, hidden);
        change(&mut counts.items, OBJECT + items);
        change(&mut counts.hidden, hidden);
        change(&mut counts.objects, objects);
        if counts.items == 0 {
            self.namespaces.remove(namespace);
        }
        if is_there && !is_hidden {
            self.unreviewed += items;
        }
        self.is_dirty = true;
    }

    pub(super) fn count_slice(&mut self, namespace: &str, slice: &Slice, is_there: bool) {
        self.count(namespace, slice.items(), slice.hidden.is_some(), is_there);
        if let Some(hidden) = &slice.hidden {
            if is_there { self.mark_table.add(&hidden.marks) } else { self.mark_table.remove(&hidden.marks) }
        }
    }

    pub(super) fn count_service(&mut self, namespace: &str, service: &Service, is_there: bool) {
        self.count(namespace, service.items(), matches!(service, Service::Hidden { .. }), is_there);
    }

    /// Compares the items of a Service and its slices with the limit.
    pub(super) fn count_all_of(&mut self, key: &Key, items: usize) {
        if items > self.limits.service {
            self.oversized.insert(key.clone());
        } else if !self.oversized.is_empty() {
            self.oversized.remove(key);
        }
    }

    /// Whether a slice equals the hidden one that is kept, and is not wanted.
    pub(super) fn is_hidden_slice(&self, key: &Key, old: &Slice, new: &Slice) -> bool {
        let Some(hidden) = &old.hidden else { return false };
        let is_wanted = self.wanted[ObjectKind::Slice as usize].contains(key);
        !is_wanted && hidden.items == new.items() && hidden.marks == self.mark_table.of(new.addresses())
    }

    /// Whether a Service equals the hidden one that is kept, and is not wanted.
    pub(super) fn is_hidden_service(&self, key: &Key, old: &Service, new: &Service) -> bool {
        let is_wanted = self.wanted[ObjectKind::Service as usize].contains(key);
        !is_wanted && new.hide().is_some_and(|new| *old == new)
    }

    /// Whether too many items arrived to wait for the next commit with the decision.
    pub(super) const fn is_urgent(&self) -> bool {
        self.items - self.hidden > self.limits.all && self.unreviewed > self.limits.all / URGENT_PART
    }

    /// Whether objects may have to be hidden, or may come back.
    fn needs_decision(&self) -> bool {
        self.hidden > 0 || self.items > self.limits.all || !self.oversized.is_empty()
    }

    /// The namespaces with the most names, at most `count`. Each hidden item counts as a name that passes.
    pub(super) fn largest_namespaces(&self, count: usize, shares: &Shares) -> Vec<NamespaceUse> {
        if self.hidden == 0 {
            return shares.largest_namespaces(count);
        }
        let mut namespaces = shares.largest_namespaces(usize::MAX);
        let known: HashSet<&str> = namespaces.iter().map(|h| &*h.namespace).collect();
        let hiding = self.namespaces.iter().filter(|(name, n)| n.hidden > 0 && !known.contains(&***name));
        let others: Vec<NamespaceUse> = hiding.map(|(name, _)| NamespaceUse::empty(name)).collect();
        namespaces.extend(others);
        for namespace in &mut namespaces {
            let Some(counts) = self.namespaces.get(&namespace.namespace).filter(|n| n.hidden > 0) else { continue };
            namespace.names += counts.hidden;
            namespace.passing += counts.hidden;
            let is_larger = |items: usize| namespace.largest.as_ref().is_none_or(|(_, names)| *names < items);
            if let Some((_, name, items)) = counts.largest.as_ref().filter(|(_, _, items)| is_larger(*items)) {
                namespace.largest = Some((name.clone(), *items));
            }
        }
        namespaces.sort_by(|a, b| (Reverse(a.names), &a.namespace).cmp(&(Reverse(b.names), &b.namespace)));
        namespaces.truncate(count);
        namespaces
    }

    /// Namespaces with hidden objects that no earlier call has returned.
    fn newly_hidden(&mut self) -> Vec<HiddenObjects> {
        if self.hidden == 0 {
            return Vec::new();
        }
        let new = self.namespaces.iter_mut().filter(|(_, n)| n.hidden > 0 && !n.is_reported);
        let reports = new.filter_map(|(name, namespace)| {
            let largest = namespace.largest.clone()?;
            namespace.is_reported = true;
            Some(HiddenObjects { namespace: name.clone(), items: namespace.items, hidden: namespace.hidden, largest })
        });
        reports.collect()
    }

    /// Whether the reverse name of an address passes, since a hidden object may list the address, too.
    pub(super) fn is_uncertain(&self, address: IpAddr) -> bool {
        self.uncertain.contains(&address)
    }

    /// Updates the uncertain addresses: those in `changed`, or all if marks were added or removed. Adds the addresses that
    /// become uncertain or certain to `changed`.
    pub(super) fn update_uncertain(&mut self, reverse: &Addresses, changed: &mut HashMap<IpAddr, bool>) {
        let has_changed = self.mark_table.take_changed();
        if !has_changed && self.mark_table.is_empty() {
            return;
        }
        let mut update = |address| {
            let is = self.mark_table.may_list(address) && reverse.get(address).is_some();
            let was = if is { !self.uncertain.insert(address) } else { self.uncertain.remove(&address) };
            (is != was).then_some(address)
        };
        let touched = changed.keys().copied();
        let new: Vec<IpAddr> = if has_changed {
            touched.chain(reverse.addresses()).filter_map(update).collect()
        } else {
            touched.filter_map(&mut update).collect()
        };
        new.into_iter().for_each(|address| _ = changed.entry(address).or_insert(true));
    }

    fn slice<'a>(&self, key: &'a Key, of: &'a Key, slice: &Slice) -> Candidate<'a> {
        let (items, hidden) = (slice.items(), slice.hidden.as_ref());
        let lacks_marks = hidden.is_some_and(|h| !h.marks.is_known()) && self.mark_table.has_room(items);
        Candidate {
            kind: ObjectKind::Slice,
            key,
            of,
            items,
            was_hidden: hidden.is_some(),
            lacks_marks,
            is_hidden: false,
        }
    }

    /// The limits of items of a namespace and of a Service. Of each pair, objects are hidden above the first number, and
    /// hidden objects come back below the second.
    fn levels(&self) -> ([usize; 2], [usize; 2]) {
        let Limits { all, service } = self.limits;
        let sizes = || self.namespaces.values().map(|n| n.items).collect();
        let [all, service] = [all, service].map(|limit| [limit, limit - limit / MARGIN]);
        (all.map(|limit| level(sizes(), limit)), service)
    }
}

/// Marks the largest objects as hidden until their items cover the excess of a namespace or Service over its limit.
fn hide_largest(objects: &mut [Candidate<'_>], items: usize, levels: [usize; 2]) {
    let [begins, ends] = levels.map(|level| items.saturating_sub(level));
    let mut sum: usize = objects.iter().filter(|o| o.is_hidden).map(|o| o.items).sum();
    if sum >= ends {
        return;
    }
    objects.sort_by_key(|o| {
        let items = if o.was_hidden { o.items + o.items / HYSTERESIS } else { o.items };
        (Reverse(items), o.kind, o.key)
    });
    for object in objects.iter_mut().filter(|o| !o.is_hidden) {
        if sum >= ends || object.items <= OBJECT {
            break;
        }
        object.is_hidden = sum < begins || object.was_hidden;
        sum += object.items;
    }
}

impl Slice {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.endpoints.iter().map(|e| e.address)
    }
}

impl Cluster {
    /// Sets the limits of kept items for maps with room for `names` names.
    pub fn set_item_limits(&mut self, names: usize) {
        self.inventory.set_limits(Limits::of(names));
    }

    /// Hides objects if too many items arrived to wait for the next commit.
    pub(super) fn hide_if_urgent(&mut self) {
        if self.inventory.is_urgent() {
            self.hide();
        }
    }

    /// Hides objects that exceed the limits, and decides which hidden ones are wanted.
    pub(super) fn hide(&mut self) {
        if !self.inventory.is_dirty {
            return;
        }
        let decision = if self.inventory.needs_decision() { self.decide_hidden() } else { HidingDecision::default() };
        for (kind, key) in decision.hide {
            match kind {
                ObjectKind::Slice => self.hide_slice(&key),
                ObjectKind::Service => self.hide_service(&key),
            }
        }
        self.inventory.wanted = decision.wanted;
        self.inventory.unreviewed = 0;
        self.inventory.is_dirty = false;
    }

    fn decide_hidden(&mut self) -> HidingDecision {
        let (levels, of_service) = self.inventory.levels();
        let oversized: HashSet<&str> = self.inventory.oversized.iter().map(|key| &*key.namespace).collect();
        let is_concerned =
            |name: &str, n: &NamespaceItems| n.items > levels[1] || n.objects > 0 || oversized.contains(name);
        let concerned = self.inventory.namespaces.iter().filter(|(name, n)| is_concerned(name, n));
        let mut objects: HashMap<&str, Vec<Candidate<'_>>> = concerned.map(|(name, _)| (&**name, Vec::new())).collect();
        for (key, (of, slice)) in &self.slices {
            if let Some(objects) = objects.get_mut(&*key.namespace) {
                objects.push(self.inventory.slice(key, of, slice));
            }
        }
        for (namespace, objects) in &mut objects {
            for (key, entry) in self.objects.in_namespace(namespace) {
                let Some(service) = &entry.service else { continue };
                let (items, was_hidden) = (service.items(), matches!(**service, Service::Hidden { .. }));
                let kind = ObjectKind::Service;
                objects.push(Candidate { kind, key, of: key, items, was_hidden, lacks_marks: false, is_hidden: false });
            }
        }
        let mut decision = HidingDecision::default();
        let mut largest: HashMap<Box<str>, (ObjectKind, Box<str>, usize)> = HashMap::new();
        for (namespace, mut objects) in objects {
            let all = self.inventory.namespaces.get(namespace).map_or(0, |n| n.items);
            objects.sort_by_key(|o| o.of);
            for objects in objects.chunk_by_mut(|a, b| a.of == b.of) {
                let items = objects.iter().map(|o| o.items).sum();
                hide_largest(objects, items, of_service);
            }
            hide_largest(&mut objects, all, levels);
            for object in &objects {
                let key = || object.key.clone();
                if object.is_hidden && !object.was_hidden {
                    decision.hide.push((object.kind, key()));
                } else if object.was_hidden && (!object.is_hidden || object.lacks_marks) {
                    decision.wanted[object.kind as usize].insert(key());
                }
            }
            let hidden = objects.iter().filter(|o| o.is_hidden);
            if let Some(o) = hidden.max_by_key(|o| (o.items, Reverse((o.kind, o.key)))) {
                largest.insert(namespace.into(), (o.kind, o.key.name.clone(), o.items));
            }
        }
        for (name, namespace) in &mut self.inventory.namespaces {
            namespace.largest = largest.remove(name);
        }
        decision
    }

    fn hide_slice(&mut self, key: &Key) {
        let Some((of, slice)) = self.slices.get(key) else { return };
        let (of, hidden) = (Key::clone(of), slice.hide(self.inventory.mark_table.of(slice.addresses())));
        self.put_slice(key.clone(), of, hidden);
    }

    fn hide_service(&mut self, key: &Key) {
        let service = self.objects.services.get(key).and_then(|entry| entry.service.as_ref()?.hide());
        if let Some(hidden) = service {
            self.put_service(key.clone(), hidden);
        }
    }

    /// The number of items in hidden objects.
    #[must_use]
    pub const fn hidden(&self) -> usize {
        self.inventory.hidden
    }

    /// Namespaces with hidden objects that no earlier call has returned.
    pub fn newly_hidden(&mut self) -> Vec<HiddenObjects> {
        self.inventory.newly_hidden()
    }

    /// A kind of which hidden objects may come back. The caller lists all objects of that kind again.
    #[must_use]
    pub fn kind_to_relist(&self) -> Option<ObjectKind> {
        [ObjectKind::Slice, ObjectKind::Service]
            .into_iter()
            .find(|kind| !self.inventory.wanted[*kind as usize].is_empty())
    }
}
