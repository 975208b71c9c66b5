//! Who gives way where the maps are too small for the whole cluster.
//!
//! Each namespace may hold its fair share: the *level*, at which all would just fit if none had more than that. Those above it
//! yield, and only their excess: whole parts of Services ([`Part`]), one kind of part after another, the largest first. What
//! has yielded comes back when it would also fit into maps that are smaller by a margin, so that nothing comes and goes with
//! each change at the limit. There is a level of names and one of memory, and whoever is above one of them yields.
//!
//! While all fits, only sums are kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use super::plan::Content;
use super::spec::Key;

/// What has yielded comes back when it would fit into maps smaller by one part in so many.
pub(super) const MARGIN: usize = 32;
/// Of two parts the one that has yielded goes on doing so unless the other is larger by one part in so many.
pub(super) const HYSTERESIS: usize = 8;

/// What something takes of the maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Names, of which `MaxRecords` is the limit.
    pub names: usize,
    /// Memory, in units of [`Size::UNIT`] octets: at most so many.
    pub units: usize,
}

impl Size {
    /// No limit.
    pub const MAX: Self = Self { names: usize::MAX, units: usize::MAX };
    /// Octets; a node takes whole ones. This and what follows is the maps' layout, which `datapath::table` compares it with.
    pub const UNIT: usize = 64;
    /// Octets of a node, without what follows it.
    pub const NODE_HEAD: usize = 16;
    /// Octets of a type that a node lists.
    pub const TYPE: usize = 4;
    /// Octets of an answer, without those that are sent.
    pub const ANSWER_HEAD: usize = 16;
    /// Octets of an answer that are sent: one with more is not kept.
    pub const ANSWER_MAX: usize = 1232;

    /// Whether both are at most that of `other`.
    #[must_use]
    pub const fn fits(self, other: Self) -> bool {
        self.names <= other.names && self.units <= other.units
    }

    /// What is left of it, at least nothing.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self { names: self.names.saturating_sub(other.names), units: self.units.saturating_sub(other.units) }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.names += other.names;
        self.units += other.units;
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        self.names -= other.names;
        self.units -= other.units;
    }
}

/// The names of a Service that yield together, in the order in which kinds of them do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Of its addresses and its endpoints': a name that is not there passes.
    Pointers,
    /// Two labels below it: a Service with ports says nothing of such names that are not there.
    Ports,
    /// One label below it.
    Endpoints,
    /// Its own name, and what goes with that.
    Service,
}

impl Part {
    pub(super) const ALL: [Self; 4] = [Self::Pointers, Self::Ports, Self::Endpoints, Self::Service];

    /// The one that a name relative to the Service's is of. One that passes does so below an alias, which says that all others
    /// there don't exist: so it goes with that.
    pub(super) fn of(relative: &str, content: &Content) -> Self {
        match relative.is_empty() || *content == Content::Pass {
            true => Self::Service,
            false if relative.contains('.') => Self::Ports,
            false => Self::Endpoints,
        }
    }
}

/// Some parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts(u8);

impl Parts {
    pub(super) const fn has(self, part: Part) -> bool {
        self.0 & 1 << part as u8 != 0
    }

    pub(super) const fn insert(&mut self, part: Part) {
        self.0 |= 1 << part as u8;
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The sizes of a Service's parts.
pub(super) type Sizes = [Size; Part::ALL.len()];

/// Sizes of which only one is not nothing.
pub(super) fn only(part: Part, size: Size) -> Sizes {
    let mut sizes = Sizes::default();
    sizes[part as usize] = size;
    sizes
}

/// A Service, as small as can be: there are many.
#[derive(Default)]
struct Object {
    names: [u32; 4],
    units: [u32; 4],
    withheld: Parts,
}

impl Object {
    fn size(&self, part: Part) -> Size {
        Size { names: self.names[part as usize] as usize, units: self.units[part as usize] as usize }
    }

    fn names(&self) -> usize {
        self.names.iter().map(|n| *n as usize).sum()
    }

    fn is_nothing(&self) -> bool {
        self.names == [0; 4] && self.withheld.is_empty()
    }
}

#[derive(Default)]
struct Namespace {
    /// All of it.
    size: Size,
    /// What yields of it.
    withheld: Size,
    /// Whether a Service's own name yields.
    is_open: bool,
    /// Whether anything does.
    has_withheld: bool,
    /// Whether it was said that it yields.
    is_reported: bool,
    /// Where something does: the largest Service, and how many names it has.
    largest: Option<(Box<str>, usize)>,
    /// For what excess the last decision stands, as long as no object changes.
    settled: Option<Settled>,
    /// In the order in which those of one size yield.
    objects: BTreeMap<Arc<Key>, Object>,
}

/// What a decision that changed nothing went by: each that finds this again would be the same. So a namespace's objects are
/// not put in order whenever somebody else's names come or go.
struct Settled {
    by_units: bool,
    /// The sizes of all before the first part that does not yield.
    missing: Size,
    /// The sizes of all before the last part that yields.
    last: Option<Size>,
}

impl Settled {
    fn holds(&self, [begins, ends]: [Size; 2], by_units: bool) -> bool {
        self.by_units == by_units && begins.fits(self.missing) && self.last.is_none_or(|last| !ends.fits(last))
    }
}

/// A namespace and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The namespace.
    pub namespace: Box<str>,
    /// Names that it has.
    pub names: usize,
    /// Names of them that pass, since it has more than its share.
    pub passing: usize,
    /// Where some pass: its largest Service, and how many names that has.
    pub largest: Option<(Box<str>, usize)>,
}

impl Holder {
    /// One that has no names.
    pub(super) fn nothing(namespace: &str) -> Self {
        Self { namespace: namespace.into(), names: 0, passing: 0, largest: None }
    }
}

/// What [`Shares::decide`] changed.
#[derive(Default)]
pub(super) struct Decision {
    /// Services whose parts do not yield as they did, with those that did.
    pub objects: HashMap<Arc<Key>, Parts>,
    /// Namespaces of which Services yield that did not, or the other way round.
    pub namespaces: Vec<Box<str>>,
}

impl Decision {
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.namespaces.is_empty()
    }
}

/// The sizes of all that there is, and what yields of it.
pub(super) struct Shares {
    capacity: Size,
    namespaces: HashMap<Box<str>, Namespace>,
    total: Size,
    withheld: Size,
    /// Whether something yields.
    has_withheld: bool,
    /// Whether the level of names is in force.
    by_names: bool,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self {
            capacity: Size::MAX,
            namespaces: HashMap::new(),
            total: Size::default(),
            withheld: Size::default(),
            has_withheld: false,
            by_names: false,
        }
    }

    pub(super) const fn set_capacity(&mut self, capacity: Size) {
        self.capacity = capacity;
    }

    /// What is in the maps by the last decision, and what was counted since.
    pub(super) const fn held(&self) -> Size {
        self.total.less(self.withheld)
    }

    /// Names that yield, and whether that is for want of names, else of memory.
    pub(super) const fn passing(&self) -> (usize, bool) {
        (self.withheld.names, self.by_names)
    }

    pub(super) const fn capacity(&self) -> Size {
        self.capacity
    }

    /// Forgets all sizes, and not what yields.
    pub(super) fn clear(&mut self) {
        self.total = Size::default();
        self.withheld = Size::default();
        for namespace in self.namespaces.values_mut() {
            namespace.size = Size::default();
            namespace.withheld = Size::default();
            namespace.settled = None;
            namespace.objects.retain(|_, o| {
                (o.names, o.units) = ([0; 4], [0; 4]);
                !o.is_nothing()
            });
        }
    }

    /// Counts what a namespace has by itself.
    pub(super) fn count_namespace(&mut self, name: &str, before: Size, after: Size) {
        let namespace = entry(&mut self.namespaces, name);
        namespace.size += after;
        namespace.size -= before;
        self.total += after;
        self.total -= before;
    }

    /// Counts what the parts of a Service have become.
    pub(super) fn count(&mut self, key: &Arc<Key>, before: Sizes, after: Sizes) {
        if before == after {
            return;
        }
        let namespace = entry(&mut self.namespaces, &key.namespace);
        namespace.settled = None;
        // Keys are shared with the Services'.
        let object = namespace.objects.entry(Arc::clone(key)).or_default();
        for part in Part::ALL {
            let (before, after) = (before[part as usize], after[part as usize]);
            let sums = [&mut namespace.size, &mut self.total];
            sums.into_iter().for_each(|sum| change(sum, before, after));
            if object.withheld.has(part) {
                let sums = [&mut namespace.withheld, &mut self.withheld];
                sums.into_iter().for_each(|sum| change(sum, before, after));
            }
            let mut size = object.size(part);
            change(&mut size, before, after);
            (object.names[part as usize], object.units[part as usize]) = (size.names as u32, size.units as u32);
        }
        if object.is_nothing() {
            namespace.objects.remove(key);
        }
    }

    /// Whether all fits, and nothing yields.
    pub(super) const fn has_room(&self) -> bool {
        !self.has_withheld && self.total.fits(self.capacity)
    }

    /// Whether anything yields.
    pub(super) const fn has_withheld(&self) -> bool {
        self.has_withheld
    }

    /// The parts of a Service that yield.
    pub(super) fn withheld(&self, key: &Key) -> Parts {
        if !self.has_withheld {
            return Parts::default();
        }
        let object = self.namespaces.get(&key.namespace).and_then(|n| n.objects.get(key));
        object.map_or(Parts::default(), |o| o.withheld)
    }

    /// Whether Services of a namespace yield, so that nothing can be said of names below it that have no node.
    pub(super) fn is_open(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|n| n.is_open)
    }

    /// Whether something of a namespace yields.
    pub(super) fn withholds(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|n| n.withheld.names > 0)
    }

    /// Decides what yields.
    pub(super) fn decide(&mut self) -> Decision {
        let mut decision = Decision::default();
        if !self.has_withheld && self.total.fits(self.capacity) {
            return decision;
        }
        let lower = Size {
            names: self.capacity.names - self.capacity.names / MARGIN,
            units: self.capacity.units - self.capacity.units / MARGIN,
        };
        let levels = [self.level(self.capacity), self.level(lower)];
        self.by_names = levels[1].names < usize::MAX;
        self.withheld = Size::default();
        self.has_withheld = false;
        for (name, namespace) in &mut self.namespaces {
            if namespace.decide(levels, &mut decision.objects) {
                decision.namespaces.push(name.clone());
            }
            self.withheld += namespace.withheld;
            self.has_withheld |= namespace.has_withheld;
        }
        self.namespaces.retain(|_, n| n.size != Size::default() || !n.objects.is_empty());
        decision
    }

    /// The sizes above which namespaces yield if so much fits.
    fn level(&self, capacity: Size) -> Size {
        let sizes = |of: fn(&Namespace) -> usize| self.namespaces.values().map(of).collect();
        Size {
            names: level(sizes(|n| n.size.names), capacity.names),
            units: level(sizes(|n| n.size.units), capacity.units),
        }
    }

    /// The namespaces that have most, at most so many.
    pub(super) fn holders(&self, count: usize) -> Vec<Holder> {
        let mut all: Vec<(&str, &Namespace)> = self.namespaces.iter().map(|(name, n)| (&**name, n)).collect();
        let order = |a: &(&str, &Namespace), b: &(&str, &Namespace)| {
            (Reverse(a.1.size.names), a.0).cmp(&(Reverse(b.1.size.names), b.0))
        };
        if all.len() > count {
            all.select_nth_unstable_by(count, order);
            all.truncate(count);
        }
        all.sort_unstable_by(order);
        all.into_iter().map(|(name, namespace)| namespace.holder(name)).collect()
    }

    /// Namespaces that yield, each told of once.
    pub(super) fn newly_withheld(&mut self) -> Vec<Holder> {
        if self.withheld.names == 0 {
            return Vec::new();
        }
        let new = self.namespaces.iter_mut().filter(|(_, n)| n.withheld.names > 0 && !n.is_reported);
        new.map(|(name, namespace)| {
            namespace.is_reported = true;
            namespace.holder(name)
        })
        .collect()
    }
}

/// Which objects have such a part: the largest first, by names or by units, and by that what has yielded.
fn in_order(objects: &[(&Arc<Key>, &mut Object)], part: Part, by_units: bool) -> impl Iterator<Item = usize> + use<> {
    let with_part = objects.iter().enumerate().filter(|(_, (_, o))| o.names[part as usize] > 0);
    let mut order: Vec<(Reverse<u32>, u32)> = with_part
        .map(|(i, (_, o))| {
            let size = if by_units { o.units[part as usize] } else { o.names[part as usize] };
            let stuck = if o.withheld.has(part) { size / HYSTERESIS as u32 } else { 0 };
            (Reverse(size.saturating_add(stuck)), i as u32)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i as usize)
}

/// Most are there already: no key is made for them.
fn entry<'a>(namespaces: &'a mut HashMap<Box<str>, Namespace>, name: &str) -> &'a mut Namespace {
    if !namespaces.contains_key(name) {
        namespaces.insert(name.into(), Namespace::default());
    }
    let Some(namespace) = namespaces.get_mut(name) else { unreachable!("it was put there") };
    namespace
}

fn change(sum: &mut Size, before: Size, after: Size) {
    *sum += after;
    *sum -= before;
}

/// The largest number such that all fit into `capacity` if none is larger; the largest there is where all fit as they are.
pub(super) fn level(mut sizes: Vec<usize>, capacity: usize) -> usize {
    sizes.sort_unstable();
    let mut left = capacity;
    for (i, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - i);
        if *size > share {
            return share;
        }
        left -= size;
    }
    usize::MAX
}

impl Namespace {
    /// Decides what yields by the levels at which it begins and ends to; returns whether it is open now if it was not, or
    /// the other way round.
    fn decide(&mut self, levels: [Size; 2], changed: &mut HashMap<Arc<Key>, Parts>) -> bool {
        let excess = levels.map(|level| self.size.less(level));
        let [begins, ends] = excess;
        let (was_open, by_units) = (self.is_open, ends.names == 0);
        let is_settled = self.settled.as_ref().is_some_and(|settled| settled.holds(excess, by_units));
        if is_settled || !self.has_withheld && begins == Size::default() {
            return false;
        }
        let mut objects: Vec<(&Arc<Key>, &mut Object)> = self.objects.iter_mut().collect();
        let mut withheld = vec![Parts::default(); objects.len()];
        let (mut sum, mut missing, mut last) = (Size::default(), None, None);
        self.withheld = Size::default();
        self.is_open = false;
        for part in Part::ALL {
            if ends.fits(sum) {
                break;
            }
            for i in in_order(&objects, part, by_units) {
                if ends.fits(sum) {
                    break;
                }
                let (size, was) = (objects[i].1.size(part), objects[i].1.withheld.has(part));
                if !begins.fits(sum) || was {
                    withheld[i].insert(part);
                    self.withheld += size;
                    self.is_open |= part == Part::Service;
                    last = Some(sum);
                } else {
                    missing = missing.or(Some(sum));
                }
                sum += size;
            }
        }
        self.has_withheld = last.is_some();
        let largest = objects.iter().filter(|_| self.has_withheld).max_by_key(|(key, o)| (o.names(), Reverse(*key)));
        self.largest = largest.map(|(key, o)| (key.name.clone(), o.names()));
        let mut is_same = true;
        for ((key, object), now) in objects.iter_mut().zip(withheld) {
            if now != object.withheld {
                is_same = false;
                changed.insert(Arc::clone(key), std::mem::replace(&mut object.withheld, now));
            }
        }
        self.objects.retain(|_, o| !o.is_nothing());
        // Of what yields now and did not the order is another one.
        self.settled = is_same.then(|| Settled { by_units, missing: missing.unwrap_or(sum), last });
        self.is_open != was_open
    }

    fn holder(&self, name: &str) -> Holder {
        Holder {
            namespace: name.into(),
            names: self.size.names,
            passing: self.withheld.names,
            largest: self.largest.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
