//! How much of the API's objects is kept, whoever makes them and however large they are.
//!
//! What takes memory are *items*: endpoints, ports, and a few for each object. Where there are too many, objects are *hidden*:
//! all that is kept of one is how many items it has, and the marks of its addresses ([`super::marks`]). Nothing is said of what it
//! might say: the endpoints of its Service pass, and a Service itself where it is hidden or headless; so do the names of the
//! addresses that it may list.
//!
//! Which ones are hidden goes by namespaces, as in [`super::share`]: each may have as many items as all could if none had more
//! (the *level*), and of one that has more the largest objects are hidden until the rest is no more than that. So nobody else's
//! objects are. What is hidden comes back where it would fit into less by a margin. The same holds for one Service, be there room
//! or not, since its names are worked out at once.
//!
//! An object that may come back has to be asked for: it is *wanted*, and comes with a list of all of its kind.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::Cluster;
use super::marks::MarkTable;
use super::model::{Service, Slice};
use super::reverse::Reverse as Addresses;
use super::share::{HYSTERESIS, Holder, MARGIN, Shares, level};
use super::spec::Key;

/// Items of an object itself: an item takes some 130 octets. Nothing is gained by hiding one that has no more than that.
const OBJECT: usize = 2;
/// For each name that the maps can hold. A Service with a port, and a slice that has one, are six items and three names at
/// least; an endpoint is one or two, and two names.
const ITEMS_PER_NAME: usize = 2;
/// At least so many, however small the maps are.
const ITEMS_MIN: usize = 1 << 19;
/// Of one Service at least so many, and else one part in so many of what the maps hold.
const SERVICE_MIN: usize = 1 << 16;
const SERVICE_PART: usize = 4;
/// Of what is kept one part in so many may come before it is looked at what is to be hidden.
const FRESH_PART: usize = 16;

/// A kind of objects that may be hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A Service.
    Service,
    /// An EndpointSlice.
    Slice,
}

/// A namespace of which not all objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenObjects {
    /// The namespace.
    pub namespace: Box<str>,
    /// Endpoints and ports of its objects.
    pub items: usize,
    /// Those of objects that are not kept.
    pub hidden: usize,
    /// The largest of these, and how many it has.
    pub largest: (ObjectKind, Box<str>, usize),
}

/// Items that are kept at most.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub all: usize,
    pub service: usize,
}

impl Limits {
    /// For maps of so many names.
    fn of(names: usize) -> Self {
        Self {
            all: names.saturating_mul(ITEMS_PER_NAME).max(ITEMS_MIN),
            service: (names / SERVICE_PART).max(SERVICE_MIN),
        }
    }
}

#[derive(Default)]
struct Namespace {
    /// Of all its objects.
    items: usize,
    /// Of those that are hidden, and how many these are.
    hidden: usize,
    objects: usize,
    /// The largest of these at the last decision.
    largest: Option<(ObjectKind, Box<str>, usize)>,
    is_reported: bool,
}

/// What there is, and what of it is hidden.
pub(super) struct Inventory {
    limits: Limits,
    namespaces: HashMap<Box<str>, Namespace>,
    items: usize,
    hidden: usize,
    /// Services that have more than one may have.
    oversized: HashSet<Key>,
    /// Items that came since the last decision, and whether anything changed.
    unreviewed: usize,
    is_dirty: bool,
    pub mark_table: MarkTable,
    /// Addresses whose names pass as of the last commit, since a hidden object may list them.
    uncertain: HashSet<IpAddr>,
    /// Objects that are hidden and may come back, by kind.
    wanted: [HashSet<Key>; 2],
}

/// An object that there is something to be hidden of.
struct Object<'a> {
    kind: ObjectKind,
    key: &'a Key,
    /// The Service that it belongs to.
    of: &'a Key,
    items: usize,
    was_hidden: bool,
    /// Whether its addresses are not known though there is room for that.
    lacks_marks: bool,
    is_hidden: bool,
}

/// What is to be done.
#[derive(Default)]
struct Decision {
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

    /// Counts an object that is there, or one that is there no more.
    fn count(&mut self, namespace: &str, items: usize, is_hidden: bool, is_there: bool) {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.into(), Namespace::default());
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

    /// Takes note of what a Service and its slices have.
    pub(super) fn count_all_of(&mut self, key: &Key, items: usize) {
        if items > self.limits.service {
            self.oversized.insert(key.clone());
        } else if !self.oversized.is_empty() {
            self.oversized.remove(key);
        }
    }

    /// Whether a slice is what is hidden already, and is not wanted.
    pub(super) fn is_hidden_slice(&self, key: &Key, old: &Slice, new: &Slice) -> bool {
        let Some(hidden) = &old.hidden else { return false };
        let is_wanted = self.wanted[ObjectKind::Slice as usize].contains(key);
        !is_wanted && hidden.items == new.items() && hidden.marks == self.mark_table.of(new.addresses())
    }

    /// The same of a Service.
    pub(super) fn is_hidden_service(&self, key: &Key, old: &Service, new: &Service) -> bool {
        let is_wanted = self.wanted[ObjectKind::Service as usize].contains(key);
        !is_wanted && new.hide().is_some_and(|new| *old == new)
    }

    /// Whether so much came that it can't wait.
    pub(super) const fn is_urgent(&self) -> bool {
        self.items - self.hidden > self.limits.all && self.unreviewed > self.limits.all / FRESH_PART
    }

    /// Whether something may have to be hidden, or to come back.
    fn needs_decision(&self) -> bool {
        self.hidden > 0 || self.items > self.limits.all || !self.oversized.is_empty()
    }

    /// The namespaces that have most, at most so many, where each hidden item counts as a name that passes.
    pub(super) fn holders(&self, count: usize, shares: &Shares) -> Vec<Holder> {
        if self.hidden == 0 {
            return shares.holders(count);
        }
        let mut holders = shares.holders(usize::MAX);
        let known: HashSet<&str> = holders.iter().map(|h| &*h.namespace).collect();
        let hoards = self.namespaces.iter().filter(|(name, n)| n.hidden > 0 && !known.contains(&***name));
        let others: Vec<Holder> = hoards.map(|(name, _)| Holder::nothing(name)).collect();
        holders.extend(others);
        for holder in &mut holders {
            let Some(hoard) = self.namespaces.get(&holder.namespace).filter(|n| n.hidden > 0) else { continue };
            holder.names += hoard.hidden;
            holder.passing += hoard.hidden;
            let is_larger = |items: usize| holder.largest.as_ref().is_none_or(|(_, names)| *names < items);
            if let Some((_, name, items)) = hoard.largest.as_ref().filter(|(_, _, items)| is_larger(*items)) {
                holder.largest = Some((name.clone(), *items));
            }
        }
        holders.sort_by(|a, b| (Reverse(a.names), &a.namespace).cmp(&(Reverse(b.names), &b.namespace)));
        holders.truncate(count);
        holders
    }

    /// Namespaces of which objects are hidden, each told of once.
    fn newly_hidden(&mut self) -> Vec<HiddenObjects> {
        if self.hidden == 0 {
            return Vec::new();
        }
        let new = self.namespaces.iter_mut().filter(|(_, n)| n.hidden > 0 && !n.is_reported);
        let told = new.filter_map(|(name, namespace)| {
            let largest = namespace.largest.clone()?;
            namespace.is_reported = true;
            Some(HiddenObjects { namespace: name.clone(), items: namespace.items, hidden: namespace.hidden, largest })
        });
        told.collect()
    }

    /// Whether the name of an address passes, since a hidden object may list it, too.
    pub(super) fn is_uncertain(&self, address: IpAddr) -> bool {
        self.uncertain.contains(&address)
    }

    /// Follows what is hidden by now, for addresses whose names may change, or for all where that has; adds those that it changes
    /// something for.
    pub(super) fn update_uncertain(&mut self, reverse: &Addresses, changed: &mut HashMap<IpAddr, bool>) {
        let has_changed = self.mark_table.take_changed();
        if !has_changed && self.mark_table.is_empty() {
            return;
        }
        let mut look = |address| {
            let is = self.mark_table.may_list(address) && reverse.get(address).is_some();
            let was = if is { !self.uncertain.insert(address) } else { self.uncertain.remove(&address) };
            (is != was).then_some(address)
        };
        let touched = changed.keys().copied();
        let new: Vec<IpAddr> = if has_changed {
            touched.chain(reverse.addresses()).filter_map(look).collect()
        } else {
            touched.filter_map(&mut look).collect()
        };
        new.into_iter().for_each(|address| _ = changed.entry(address).or_insert(true));
    }

    fn slice<'a>(&self, key: &'a Key, of: &'a Key, slice: &Slice) -> Object<'a> {
        let (items, hidden) = (slice.items(), slice.hidden.as_ref());
        let lacks_marks = hidden.is_some_and(|h| !h.marks.is_known()) && self.mark_table.has_room(items);
        Object { kind: ObjectKind::Slice, key, of, items, was_hidden: hidden.is_some(), lacks_marks, is_hidden: false }
    }

    /// The numbers of items above which a namespace, or a Service, has too many, and above which what is hidden stays so.
    fn levels(&self) -> ([usize; 2], [usize; 2]) {
        let Limits { all, service } = self.limits;
        let sizes = || self.namespaces.values().map(|n| n.items).collect();
        let [all, service] = [all, service].map(|limit| [limit, limit - limit / MARGIN]);
        (all.map(|limit| level(sizes(), limit)), service)
    }
}

/// Hides the largest that do not yet, until these and what hides before are what a namespace or Service has too much.
fn hide_largest(objects: &mut [Object<'_>], items: usize, levels: [usize; 2]) {
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
    /// Bounds what is kept of the API's objects, as it goes with maps of so many names.
    pub fn bound(&mut self, names: usize) {
        self.inventory.set_limits(Limits::of(names));
    }

    /// Hides what is too much, if so much came that it can't wait for the next commit.
    pub(super) fn hide_if_urgent(&mut self) {
        if self.inventory.is_urgent() {
            self.hide();
        }
    }

    /// Hides what is too much, and notes what is wanted again.
    pub(super) fn hide(&mut self) {
        if !self.inventory.is_dirty {
            return;
        }
        let decision = if self.inventory.needs_decision() { self.decide_hidden() } else { Decision::default() };
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

    fn decide_hidden(&mut self) -> Decision {
        let (levels, of_service) = self.inventory.levels();
        let oversized: HashSet<&str> = self.inventory.oversized.iter().map(|key| &*key.namespace).collect();
        let is_concerned = |name: &str, n: &Namespace| n.items > levels[1] || n.objects > 0 || oversized.contains(name);
        let concerned = self.inventory.namespaces.iter().filter(|(name, n)| is_concerned(name, n));
        let mut objects: HashMap<&str, Vec<Object<'_>>> = concerned.map(|(name, _)| (&**name, Vec::new())).collect();
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
                objects.push(Object { kind, key, of: key, items, was_hidden, lacks_marks: false, is_hidden: false });
            }
        }
        let mut decision = Decision::default();
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
            let hides = objects.iter().filter(|o| o.is_hidden);
            if let Some(o) = hides.max_by_key(|o| (o.items, Reverse((o.kind, o.key)))) {
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

    /// Endpoints and ports of objects that are not kept.
    #[must_use]
    pub const fn hidden(&self) -> usize {
        self.inventory.hidden
    }

    /// Namespaces of which not all is kept, each told of once.
    pub fn newly_hidden(&mut self) -> Vec<HiddenObjects> {
        self.inventory.newly_hidden()
    }

    /// A kind of which objects that were hidden could be kept by now: they come with a list of all of that kind.
    #[must_use]
    pub fn wants_again(&self) -> Option<ObjectKind> {
        [ObjectKind::Slice, ObjectKind::Service]
            .into_iter()
            .find(|kind| !self.inventory.wanted[*kind as usize].is_empty())
    }
}
