//! The EndpointSlices of one Service, and the lists of endpoints that its names need.
//!
//! A Service may have thousands of port names, each in many slices. To read the endpoints of all these slices for each name
//! would take too long. So the list of endpoints is made once for each slice, and a union of lists compares numbers instead of
//! names and addresses.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::model::{Entry, Port, Slice};
use super::plan::{Relative, SrvRecords};
use super::share::Size;
use crate::zone::render::RRS_MAX;

/// More records than a message holds. Longer lists are cut to this length.
const MANY: usize = RRS_MAX + 1;
/// The least octets of an SRV record whose owner and target are pointers, and of an address record.
const SRV_MIN: usize = 20;
const ADDRESS_MIN: usize = 16;

/// The target of an SRV record, and one of its addresses.
pub(super) type Target = (Relative, IpAddr);

/// IPv4 and IPv6.
const UNSPECIFIED: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// The addresses, sorted, each once. If a family has more addresses than a message holds, the list has [`MANY`] unspecified
/// addresses of that family instead: the query passes in any case, and all such lists are equal.
pub(super) fn address_set(addresses: impl Iterator<Item = IpAddr>) -> Arc<[IpAddr]> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    let (v4, v6) = addresses.split_at(addresses.partition_point(IpAddr::is_ipv4));
    if v4.len() < MANY && v6.len() < MANY {
        return addresses.into();
    }
    both_families([v4, v6].map(<[IpAddr]>::len), |family| [v4, v6][family].to_vec())
}

/// The lists of both families in one: those that `list` returns, or [`MANY`] unspecified addresses for a family with so many.
fn both_families(counts: [usize; 2], list: impl Fn(usize) -> Vec<IpAddr>) -> Arc<[IpAddr]> {
    let family = |i: usize| if counts[i] < MANY { list(i) } else { vec![UNSPECIFIED[i]; MANY] };
    [family(0), family(1)].concat().into()
}

/// Whether a message may hold `records` SRV records and `addresses` addresses of their targets.
pub(super) const fn fits(records: usize, addresses: usize) -> bool {
    records * SRV_MIN + addresses * ADDRESS_MIN <= Size::ANSWER_MAX
}

/// The number of some ports, and their port numbers.
#[derive(Default)]
pub(super) struct Ports {
    pub count: usize,
    /// Sorted, each once, at most [`MANY`].
    pub numbers: Vec<u16>,
}

impl Ports {
    pub(super) fn add(&mut self, port: &Port) {
        self.count += 1;
        let Some(number) = port.number.filter(|_| self.numbers.len() < MANY) else { return };
        if let Err(at) = self.numbers.binary_search(&number) {
            self.numbers.insert(at, number);
        }
    }

    fn of<'a>(ports: impl IntoIterator<Item = &'a Port>) -> Self {
        let mut all = Self::default();
        ports.into_iter().for_each(|port| all.add(port));
        all
    }
}

/// Gives each value a number, and builds unions of lists of numbers.
struct Interner<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
    /// The last union to which each value was added.
    added: Vec<u32>,
    unions: u32,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new(), added: Vec::new(), unions: 0 }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn number(&mut self, value: &T) -> u32 {
        #[cfg(test)]
        steps::count(1);
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.numbers.insert(value.clone(), number);
        self.values.push(value.clone());
        self.added.push(0);
        number
    }

    /// Begins an empty union.
    fn begin(&mut self) {
        self.unions += 1;
    }

    /// Adds a value to the union. Returns whether it is new there.
    fn add(&mut self, number: u32) -> bool {
        #[cfg(test)]
        steps::count(1);
        std::mem::replace(&mut self.added[number as usize], self.unions) != self.unions
    }
}

/// Targets, sorted, each once, at most [`MANY`].
pub(super) struct Targets {
    all: Vec<Target>,
    /// The number of different names.
    names: usize,
}

impl Targets {
    pub(super) fn new(mut all: Vec<Target>) -> Self {
        all.sort_unstable();
        all.dedup();
        let names = all.chunk_by(|a, b| a.0 == b.0).count();
        Self { all, names }
    }

    /// The SRV records of these targets on `ports`, which are sorted, with the weight of `count` entries. None if no message
    /// holds them.
    pub(super) fn srv(&self, ports: &[u16], count: usize) -> Option<SrvRecords> {
        let records = self.records(ports)?;
        let addresses = if records.is_empty() { Vec::new() } else { self.all.clone() };
        Some(SrvRecords::new(records, count, addresses))
    }

    /// Like [`Self::srv`], but moves the targets.
    pub(super) fn into_srv(self, ports: &[u16], count: usize) -> Option<SrvRecords> {
        let records = self.records(ports)?;
        let addresses = if records.is_empty() { Vec::new() } else { self.all };
        Some(SrvRecords::new(records, count, addresses))
    }

    fn records(&self, ports: &[u16]) -> Option<Vec<(Relative, u16)>> {
        if self.all.is_empty() || ports.is_empty() {
            return Some(Vec::new());
        }
        if self.all.len() >= MANY || ports.len() >= MANY || !fits(self.names * ports.len(), self.all.len()) {
            return None;
        }
        let mut records = Vec::with_capacity(self.names * ports.len());
        for (name, _) in self.all.chunk_by(|a, b| a.0 == b.0).map(|group| &group[0]) {
            records.extend(ports.iter().map(|port| (Relative::clone(name), *port)));
        }
        Some(records)
    }
}

/// A slice, with lists that are made when they are first needed.
struct Prepared {
    slice: Arc<Slice>,
    ports: OnceCell<Ports>,
    /// Whether it has IPv4 addresses, and IPv6 addresses.
    families: OnceCell<[bool; 2]>,
    addresses: OnceCell<Arc<[IpAddr]>>,
    /// The numbers of its IPv4 and its IPv6 addresses.
    numbered_addresses: OnceCell<[Vec<u32>; 2]>,
    targets: OnceCell<Targets>,
    /// The numbers of its targets' names, and of its targets.
    numbered_targets: OnceCell<[Vec<u32>; 2]>,
}

impl Prepared {
    fn targets(&self) -> &Targets {
        self.targets.get_or_init(|| {
            let mut targets =
                self.slice.endpoints.iter().map(|endpoint| (Relative::from(endpoint.label()), endpoint.address));
            if targets.len() < MANY {
                return Targets::new(targets.collect());
            }
            let mut seen = HashSet::new();
            while let Some(target) = targets.next().filter(|_| seen.len() < MANY) {
                seen.insert(target);
            }
            Targets::new(seen.into_iter().collect())
        })
    }

    fn addresses(&self) -> &Arc<[IpAddr]> {
        self.addresses.get_or_init(|| address_set(self.slice.endpoints.iter().map(|e| e.address)))
    }

    fn families(&self) -> [bool; 2] {
        *self.families.get_or_init(|| {
            let has = |v4| self.slice.endpoints.iter().any(|endpoint| endpoint.address.is_ipv4() == v4);
            [has(true), has(false)]
        })
    }

    fn numbered_addresses(&self, numbered: &mut Interner<IpAddr>) -> &[Vec<u32>; 2] {
        self.numbered_addresses.get_or_init(|| {
            let addresses = self.addresses();
            let (v4, v6) = addresses.split_at(addresses.partition_point(IpAddr::is_ipv4));
            // If a list is full, the union is full as well, so the numbers in the list don't matter.
            [v4, v6].map(|family| match family.len() < MANY {
                true => family.iter().map(|a| numbered.number(a)).collect(),
                false => vec![0; MANY],
            })
        })
    }

    fn numbered_targets(&self, names: &mut Interner<Relative>, targets: &mut Interner<Target>) -> &[Vec<u32>; 2] {
        self.numbered_targets.get_or_init(|| {
            let all = &self.targets().all;
            let group = all.chunk_by(|a, b| a.0 == b.0);
            [
                group.map(|group| names.number(&group[0].0)).collect(),
                all.iter().map(|target| targets.number(target)).collect(),
            ]
        })
    }
}

/// The addresses of unions of slices, by the numbers of the slices.
type Unions = HashMap<Box<[u32]>, Arc<[IpAddr]>>;

/// The slices of one state of a Service, in the order of its entry.
pub(super) struct Slices {
    all: Vec<Prepared>,
    addresses: RefCell<Interner<IpAddr>>,
    names: RefCell<Interner<Relative>>,
    targets: RefCell<Interner<Target>>,
    unions: RefCell<Unions>,
}

impl Slices {
    pub(super) fn new(entry: &Entry) -> Self {
        let prepared = |slice: &Arc<Slice>| Prepared {
            slice: Arc::clone(slice),
            ports: OnceCell::new(),
            families: OnceCell::new(),
            addresses: OnceCell::new(),
            numbered_addresses: OnceCell::new(),
            targets: OnceCell::new(),
            numbered_targets: OnceCell::new(),
        };
        Self {
            all: entry.slices.iter().map(prepared).collect(),
            addresses: RefCell::default(),
            names: RefCell::default(),
            targets: RefCell::default(),
            unions: RefCell::default(),
        }
    }

    pub(super) fn get(&self, slice: u32) -> &Slice {
        &self.all[slice as usize].slice
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slice)> {
        (0..).zip(self.all.iter().map(|prepared| &*prepared.slice))
    }

    /// All ports of a slice.
    pub(super) fn ports(&self, slice: u32) -> &Ports {
        let prepared = &self.all[slice as usize];
        prepared.ports.get_or_init(|| Ports::of(&prepared.slice.ports))
    }

    /// The addresses of some slices, as returned by [`address_set`].
    pub(super) fn addresses(&self, slices: &[u32]) -> Arc<[IpAddr]> {
        if let [only] = slices {
            return Arc::clone(self.all[*only as usize].addresses());
        }
        if let Some(known) = self.unions.borrow().get(slices) {
            return Arc::clone(known);
        }
        let numbered = &mut *self.addresses.borrow_mut();
        let mut found = [Vec::new(), Vec::new()];
        numbered.begin();
        for slice in slices.iter().map(|slice| &self.all[*slice as usize]) {
            // Lists that are full for all families of the slice stay as they are.
            if slice.families().iter().zip(&found).all(|(has, found)| !has || found.len() >= MANY) {
                continue;
            }
            let lists = slice.numbered_addresses(numbered);
            for (found, list) in found.iter_mut().zip(lists) {
                if list.len() >= MANY {
                    found.clone_from(list);
                } else if found.len() < MANY {
                    found.extend(list.iter().filter(|number| numbered.add(**number)));
                }
            }
        }
        let addresses = both_families([found[0].len(), found[1].len()], |family| {
            let mut list: Vec<IpAddr> =
                found[family].iter().map(|number: &u32| numbered.values[*number as usize]).collect();
            list.sort_unstable();
            list
        });
        self.unions.borrow_mut().insert(slices.into(), Arc::clone(&addresses));
        addresses
    }

    /// The SRV records of a port's name. `slices_with_port` are the slices that have the port, each with its numbers of it;
    /// the targets are all their endpoints. None if no message holds the records.
    ///
    /// The weight is that of CoreDNS, which counts every entry, with or without a port number. Each pair of target and port is
    /// listed once for all protocols, and each address once.
    pub(super) fn srv(&self, slices_with_port: &[(u32, Ports)]) -> Option<SrvRecords> {
        let count = slices_with_port.iter().map(|(i, ports)| self.get(*i).endpoints.len() * ports.count).sum();
        if let [(only, ports)] = slices_with_port {
            // Without port numbers no targets are needed.
            return if ports.numbers.is_empty() {
                Some(SrvRecords::new(Vec::new(), count, Vec::new()))
            } else {
                self.all[*only as usize].targets().srv(&ports.numbers, count)
            };
        }
        let mut pairs: Vec<(u16, u32)> = Vec::new();
        for (i, ports) in
            slices_with_port.iter().filter(|(i, ports)| !ports.numbers.is_empty() && !self.get(*i).endpoints.is_empty())
        {
            if ports.numbers.len() >= MANY {
                return None;
            }
            pairs.extend(ports.numbers.iter().map(|number| (*number, *i)));
        }
        pairs.sort_unstable();
        let (names, targets) = (&mut *self.names.borrow_mut(), &mut *self.targets.borrow_mut());
        let (mut records, mut addresses): (Vec<(u32, u16)>, Vec<u32>) = (Vec::new(), Vec::new());
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            names.begin();
            for (port, i) in group {
                let [own, _] = self.all[*i as usize].numbered_targets(names, targets);
                if !fits(own.len(), 0) {
                    return None;
                }
                records.extend(own.iter().filter(|name| names.add(**name)).map(|name| (*name, *port)));
                if !fits(records.len(), 0) {
                    return None;
                }
            }
        }
        targets.begin();
        for (i, _) in slices_with_port.iter().filter(|(_, ports)| !ports.numbers.is_empty()) {
            // A list of targets that was cut does not fit anyway.
            let [_, own] = self.all[*i as usize].numbered_targets(names, targets);
            addresses.extend(own.iter().filter(|target| targets.add(**target)));
            if !fits(records.len(), addresses.len()) {
                return None;
            }
        }
        let name = |(name, port): (u32, u16)| (Relative::clone(&names.values[name as usize]), port);
        let mut records: Vec<(Relative, u16)> = records.into_iter().map(name).collect();
        let mut addresses: Vec<Target> =
            addresses.into_iter().map(|target: u32| targets.values[target as usize].clone()).collect();
        records.sort_unstable();
        addresses.sort_unstable();
        Some(SrvRecords::new(records, count, addresses))
    }
}

/// Counts the lookups for names of ports, so that tests can check their cost.
#[cfg(test)]
pub(super) mod steps {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    pub fn count(steps: usize) {
        STEPS.set(STEPS.get() + steps);
    }

    /// The number of lookups since the last call.
    pub fn take() -> usize {
        STEPS.take()
    }
}
