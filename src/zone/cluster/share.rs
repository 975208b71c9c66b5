//! Fair shares: decides which names are withheld if the maps are too small for the whole cluster.
//!
//! The share of each namespace is the *level* (max-min fair share): the largest size such that all namespaces fit if each is
//! cut to it. A namespace above the level has its excess withheld, in whole groups of a Service's names (`NameGroup`): one
//! kind of group after another, and of each kind the largest groups first. Withheld groups come back if they would also fit
//! into maps smaller by a margin, so that names at the limit don't flap. There is one level of names and one of memory; both
//! hold.
//!
//! While all names fit, only their sizes are counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use super::plan::Content;
use super::spec::Key;

/// Withheld groups come back if they would also fit into maps smaller by 1/`MARGIN`.
pub(super) const MARGIN: usize = 32;
/// A withheld group is exchanged for another one only if the other is larger by more than 1/`HYSTERESIS`.
pub(super) const HYSTERESIS: usize = 8;

/// Room in the maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// The number of names. `MaxRecords` limits it.
    pub names: usize,
    /// An upper bound of the memory, in units of [`Size::UNIT`] bytes.
    pub units: usize,
}

impl Size {
    /// No limit.
    pub const MAX: Self = Self { names: usize::MAX, units: usize::MAX };
    /// Bytes of a unit; a node takes whole units. This and the following constants are the layout of the maps:
    /// `datapath::table` checks that they agree.
    pub const UNIT: usize = 64;
    /// Bytes of a node's header.
    pub const NODE_HEAD: usize = 16;
    /// Bytes of a type that a node lists.
    pub const TYPE: usize = 4;
    /// Bytes of an answer's header, which is not sent.
    pub const ANSWER_HEAD: usize = 16;
    /// The most octets of an answer's records. Longer answers are not stored.
    pub const ANSWER_MAX: usize = 1232;

    /// Whether neither number exceeds that of `other`.
    #[must_use]
    pub const fn fits(self, other: Self) -> bool {
        self.names <= other.names && self.units <= other.units
    }

    /// The difference of both numbers, at least 0.
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

/// A group of a Service's names that are withheld together. Kinds of groups are withheld in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NameGroup {
    /// The reverse names of its cluster IPs and endpoints. Queries for reverse names without a node pass anyway.
    Pointers,
    /// Names two labels below its own. If they have no node, queries for them pass anyway.
    Ports,
    /// Names one label below its own.
    Endpoints,
    /// The Service's own name, and names that exist only with it.
    Service,
}

impl NameGroup {
    pub(super) const ALL: [Self; 4] = [Self::Pointers, Self::Ports, Self::Endpoints, Self::Service];

    /// The group of a name, which is given relative to the Service's own name. A name that passes is below an alias. Without a
    /// node of its own it would get NXDOMAIN from the alias, so it is withheld only with the alias.
    pub(super) fn of(relative: &str, content: &Content) -> Self {
        match relative.is_empty() || *content == Content::Pass {
            true => Self::Service,
            false if relative.contains('.') => Self::Ports,
            false => Self::Endpoints,
        }
    }
}

/// A set of name groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NameGroups(u8);

impl NameGroups {
    pub(super) const fn has(self, group: NameGroup) -> bool {
        self.0 & 1 << group as u8 != 0
    }

    pub(super) const fn insert(&mut self, group: NameGroup) {
        self.0 |= 1 << group as u8;
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The sizes of a Service's name groups.
pub(super) type Sizes = [Size; NameGroup::ALL.len()];

/// Sizes of which only that of `group` is not 0.
pub(super) fn only(group: NameGroup, size: Size) -> Sizes {
    let mut sizes = Sizes::default();
    sizes[group as usize] = size;
    sizes
}

/// The sizes of a Service's name groups, and which of them are withheld. Compact, since a cluster has many Services.
#[derive(Default)]
struct ServiceSizes {
    names: [u32; 4],
    units: [u32; 4],
    withheld: NameGroups,
}

impl ServiceSizes {
    fn size(&self, group: NameGroup) -> Size {
        Size { names: self.names[group as usize] as usize, units: self.units[group as usize] as usize }
    }

    fn names(&self) -> usize {
        self.names.iter().map(|n| *n as usize).sum()
    }

    fn is_nothing(&self) -> bool {
        self.names == [0; 4] && self.withheld.is_empty()
    }
}

/// The sizes of a namespace.
#[derive(Default)]
struct NamespaceShare {
    /// The size of all its names.
    size: Size,
    /// The size of its withheld names.
    withheld: Size,
    /// Whether absent names in the namespace pass, because a Service's own name is withheld.
    passes_absent_names: bool,
    /// Whether any group is withheld.
    has_withheld: bool,
    /// Whether [`Shares::newly_withheld`] has returned it.
    is_reported: bool,
    /// If any group is withheld: the largest Service and the number of its names.
    largest: Option<(Box<str>, usize)>,
    /// The excesses for which the last decision stays valid. None: the next decision is made anew.
    settled: Option<Settled>,
    /// The Services in the order of their keys: of two groups of one size, that of the first Service is withheld first.
    services: BTreeMap<Arc<Key>, ServiceSizes>,
}

/// The condition under which a decision that changed nothing stays the same. It saves sorting the Services of a namespace
/// again for each change in another namespace.
struct Settled {
    by_units: bool,
    /// The size of all groups that come before the first one that is not withheld, in withholding order.
    missing: Size,
    /// The size of all groups that come before the last withheld one, in withholding order.
    last: Option<Size>,
}

impl Settled {
    fn holds(&self, [begins, ends]: [Size; 2], by_units: bool) -> bool {
        self.by_units == by_units && begins.fits(self.missing) && self.last.is_none_or(|last| !ends.fits(last))
    }
}

/// A namespace and the number of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceUse {
    /// The namespace.
    pub namespace: Box<str>,
    /// The number of its names.
    pub names: usize,
    /// The number of its names that are withheld and so pass.
    pub passing: usize,
    /// If names are withheld: its largest Service and the number of that Service's names.
    pub largest: Option<(Box<str>, usize)>,
}

impl NamespaceUse {
    /// A namespace without names.
    pub(super) fn empty(namespace: &str) -> Self {
        Self { namespace: namespace.into(), names: 0, passing: 0, largest: None }
    }
}

/// The changes of a decision ([`Shares::decide`]).
#[derive(Default)]
pub(super) struct ShareDecision {
    /// Services whose withheld name groups changed, with the groups that were withheld before.
    pub services: HashMap<Arc<Key>, NameGroups>,
    /// Namespaces for which [`Shares::passes_absent_names`] changed.
    pub namespaces: Vec<Box<str>>,
}

impl ShareDecision {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.namespaces.is_empty()
    }
}

/// The sizes of all names, and the withheld ones.
pub(super) struct Shares {
    capacity: Size,
    namespaces: HashMap<Box<str>, NamespaceShare>,
    total: Size,
    withheld: Size,
    /// Whether any group is withheld.
    has_withheld: bool,
    /// Whether a namespace exceeds the level of names.
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

    /// The size of all names that are not withheld, with those counted since the last decision.
    pub(super) const fn held(&self) -> Size {
        self.total.less(self.withheld)
    }

    /// The number of withheld names, and whether `MaxRecords` is the limit (otherwise it is memory).
    pub(super) const fn withheld_names(&self) -> (usize, bool) {
        (self.withheld.names, self.by_names)
    }

    pub(super) const fn capacity(&self) -> Size {
        self.capacity
    }

    /// Sets all sizes to 0. Withheld groups stay so until the next decision.
    pub(super) fn clear(&mut self) {
        self.total = Size::default();
        self.withheld = Size::default();
        for namespace in self.namespaces.values_mut() {
            namespace.size = Size::default();
            namespace.withheld = Size::default();
            namespace.settled = None;
            namespace.services.retain(|_, o| {
                (o.names, o.units) = ([0; 4], [0; 4]);
                !o.is_nothing()
            });
        }
    }

    /// Counts the names of a namespace itself, without those of its Services.
    pub(super) fn count_namespace(&mut self, name: &str, before: Size, after: Size) {
        let namespace = entry(&mut self.namespaces, name);
        namespace.size += after;
        namespace.size -= before;
        self.total += after;
        self.total -= before;
    }

    /// Counts the changed sizes of a Service's groups.
    pub(super) fn count(&mut self, key: &Arc<Key>, before: Sizes, after: Sizes) {
        if before == after {
            return;
        }
        let namespace = entry(&mut self.namespaces, &key.namespace);
        namespace.settled = None;
        // Shares the key with the index of Services.
        let service = namespace.services.entry(Arc::clone(key)).or_default();
        for group in NameGroup::ALL {
            let (before, after) = (before[group as usize], after[group as usize]);
            let sums = [&mut namespace.size, &mut self.total];
            sums.into_iter().for_each(|sum| change(sum, before, after));
            if service.withheld.has(group) {
                let sums = [&mut namespace.withheld, &mut self.withheld];
                sums.into_iter().for_each(|sum| change(sum, before, after));
            }
            let mut size = service.size(group);
            change(&mut size, before, after);
            (service.names[group as usize], service.units[group as usize]) = (size.names as u32, size.units as u32);
        }
        if service.is_nothing() {
            namespace.services.remove(key);
        }
    }

    /// Whether all names fit and none is withheld.
    pub(super) const fn has_room(&self) -> bool {
        !self.has_withheld && self.total.fits(self.capacity)
    }

    /// Whether any group is withheld.
    pub(super) const fn has_withheld(&self) -> bool {
        self.has_withheld
    }

    /// The withheld name groups of a Service.
    pub(super) fn withheld(&self, key: &Key) -> NameGroups {
        if !self.has_withheld {
            return NameGroups::default();
        }
        let service = self.namespaces.get(&key.namespace).and_then(|n| n.services.get(key));
        service.map_or(NameGroups::default(), |o| o.withheld)
    }

    /// Whether absent names in a namespace pass, because Services there have their own names withheld.
    pub(super) fn passes_absent_names(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|n| n.passes_absent_names)
    }

    /// Whether names of a namespace are withheld.
    pub(super) fn withholds(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|n| n.withheld.names > 0)
    }

    /// Decides which groups are withheld.
    pub(super) fn decide(&mut self) -> ShareDecision {
        let mut decision = ShareDecision::default();
        if self.has_room() {
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
            if namespace.decide(levels, &mut decision.services) {
                decision.namespaces.push(name.clone());
            }
            self.withheld += namespace.withheld;
            self.has_withheld |= namespace.has_withheld;
        }
        self.namespaces.retain(|_, n| n.size != Size::default() || !n.services.is_empty());
        decision
    }

    /// The levels of names and memory for maps of this capacity.
    fn level(&self, capacity: Size) -> Size {
        let sizes = |of: fn(&NamespaceShare) -> usize| self.namespaces.values().map(of).collect();
        Size {
            names: level(sizes(|n| n.size.names), capacity.names),
            units: level(sizes(|n| n.size.units), capacity.units),
        }
    }

    /// The namespaces with the most names, at most `count`.
    pub(super) fn largest_namespaces(&self, count: usize) -> Vec<NamespaceUse> {
        let mut all: Vec<(&str, &NamespaceShare)> = self.namespaces.iter().map(|(name, n)| (&**name, n)).collect();
        let order = |a: &(&str, &NamespaceShare), b: &(&str, &NamespaceShare)| {
            (Reverse(a.1.size.names), a.0).cmp(&(Reverse(b.1.size.names), b.0))
        };
        if all.len() > count {
            all.select_nth_unstable_by(count, order);
            all.truncate(count);
        }
        all.sort_unstable_by(order);
        all.into_iter().map(|(name, namespace)| namespace.usage(name)).collect()
    }

    /// Namespaces with withheld names that no earlier call has returned.
    pub(super) fn newly_withheld(&mut self) -> Vec<NamespaceUse> {
        if self.withheld.names == 0 {
            return Vec::new();
        }
        let new = self.namespaces.iter_mut().filter(|(_, n)| n.withheld.names > 0 && !n.is_reported);
        new.map(|(name, namespace)| {
            namespace.is_reported = true;
            namespace.usage(name)
        })
        .collect()
    }
}

/// The indices of the Services that have this group, the largest group first, by names or by units. A withheld group counts as
/// larger ([`HYSTERESIS`]).
fn in_order(
    services: &[(&Arc<Key>, &mut ServiceSizes)],
    group: NameGroup,
    by_units: bool,
) -> impl Iterator<Item = usize> + use<> {
    let with_group = services.iter().enumerate().filter(|(_, (_, o))| o.names[group as usize] > 0);
    let mut order: Vec<(Reverse<u32>, u32)> = with_group
        .map(|(i, (_, o))| {
            let size = if by_units { o.units[group as usize] } else { o.names[group as usize] };
            let stuck = if o.withheld.has(group) { size / HYSTERESIS as u32 } else { 0 };
            (Reverse(size.saturating_add(stuck)), i as u32)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i as usize)
}

/// The namespace of this name, created if it is missing. The name is copied only then.
fn entry<'a>(namespaces: &'a mut HashMap<Box<str>, NamespaceShare>, name: &str) -> &'a mut NamespaceShare {
    if !namespaces.contains_key(name) {
        namespaces.insert(name.into(), NamespaceShare::default());
    }
    let Some(namespace) = namespaces.get_mut(name) else { unreachable!("it was put there") };
    namespace
}

fn change(sum: &mut Size, before: Size, after: Size) {
    *sum += after;
    *sum -= before;
}

/// The level: the largest number such that all sizes fit into `capacity` if none is larger. `usize::MAX` if all fit as they are.
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

impl NamespaceShare {
    /// Decides which groups are withheld: groups above the first level are withheld, and withheld groups come back below the
    /// second. Returns whether `passes_absent_names` changed.
    fn decide(&mut self, levels: [Size; 2], changed: &mut HashMap<Arc<Key>, NameGroups>) -> bool {
        let excess = levels.map(|level| self.size.less(level));
        let [begins, ends] = excess;
        let (did_pass, by_units) = (self.passes_absent_names, ends.names == 0);
        let is_settled = self.settled.as_ref().is_some_and(|settled| settled.holds(excess, by_units));
        if is_settled || !self.has_withheld && begins == Size::default() {
            return false;
        }
        let mut services: Vec<(&Arc<Key>, &mut ServiceSizes)> = self.services.iter_mut().collect();
        let mut withheld = vec![NameGroups::default(); services.len()];
        let (mut sum, mut missing, mut last) = (Size::default(), None, None);
        self.withheld = Size::default();
        self.passes_absent_names = false;
        for group in NameGroup::ALL {
            if ends.fits(sum) {
                break;
            }
            for i in in_order(&services, group, by_units) {
                if ends.fits(sum) {
                    break;
                }
                let (size, was) = (services[i].1.size(group), services[i].1.withheld.has(group));
                if !begins.fits(sum) || was {
                    withheld[i].insert(group);
                    self.withheld += size;
                    self.passes_absent_names |= group == NameGroup::Service;
                    last = Some(sum);
                } else {
                    missing = missing.or(Some(sum));
                }
                sum += size;
            }
        }
        self.has_withheld = last.is_some();
        let largest = services.iter().filter(|_| self.has_withheld).max_by_key(|(key, o)| (o.names(), Reverse(*key)));
        self.largest = largest.map(|(key, o)| (key.name.clone(), o.names()));
        let mut is_same = true;
        for ((key, service), now) in services.iter_mut().zip(withheld) {
            if now != service.withheld {
                is_same = false;
                changed.insert(Arc::clone(key), std::mem::replace(&mut service.withheld, now));
            }
        }
        self.services.retain(|_, o| !o.is_nothing());
        // A change of the withheld groups changes the order of the next decision.
        self.settled = is_same.then(|| Settled { by_units, missing: missing.unwrap_or(sum), last });
        self.passes_absent_names != did_pass
    }

    fn usage(&self, name: &str) -> NamespaceUse {
        NamespaceUse {
            namespace: name.into(),
            names: self.size.names,
            passing: self.withheld.names,
            largest: self.largest.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
