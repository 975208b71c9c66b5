//! Reverse names: the Services and endpoints that have each address, for PTR records.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::ClusterConfig;
use super::model::{Endpoint, Entry, Service};
use super::share::{NameGroup, Shares, Size, Sizes, only};
use super::size;
use super::spec::Key;
use crate::zone::name::Name;
use crate::zone::render::RRS_MAX;

/// The owners of an address: Services with this cluster IP, and endpoints. The API gives a cluster IP to one Service only; if
/// several had it, the first one would count.
#[derive(Debug, Default)]
enum AddressOwners {
    #[default]
    Empty,
    Service(Arc<Key>),
    Endpoint(EndpointKey),
    Many(Box<Lists>),
}

/// An endpoint: its Service, and its hostname.
type EndpointKey = (Arc<Key>, Option<Box<str>>);

#[derive(Debug, Default)]
struct Lists {
    services: BTreeSet<Arc<Key>>,
    endpoints: BTreeSet<EndpointKey>,
}

/// The endpoints that have an address, sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Endpoints<'a> {
    one: Option<&'a EndpointKey>,
    many: Option<&'a BTreeSet<EndpointKey>>,
}

impl<'a> Endpoints<'a> {
    pub(super) fn len(self) -> usize {
        self.one.map_or(0, |_| 1) + self.many.map_or(0, BTreeSet::len)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'a EndpointKey> {
        self.one.into_iter().chain(self.many.into_iter().flatten())
    }
}

impl AddressOwners {
    fn service(&self) -> Option<&Arc<Key>> {
        match self {
            Self::Service(key) => Some(key),
            Self::Many(lists) => lists.services.first(),
            Self::Empty | Self::Endpoint(_) => None,
        }
    }

    fn endpoints(&self) -> Endpoints<'_> {
        match self {
            Self::Endpoint(endpoint) => Endpoints { one: Some(endpoint), many: None },
            Self::Many(lists) => Endpoints { one: None, many: Some(&lists.endpoints) },
            Self::Empty | Self::Service(_) => Endpoints::default(),
        }
    }

    /// Changes the owners. A single owner, the usual case, is stored without lists.
    fn change(&mut self, change: impl FnOnce(&mut Lists)) {
        let mut lists = match std::mem::take(self) {
            Self::Empty => Lists::default(),
            Self::Service(key) => Lists { services: BTreeSet::from([key]), endpoints: BTreeSet::new() },
            Self::Endpoint(endpoint) => Lists { services: BTreeSet::new(), endpoints: BTreeSet::from([endpoint]) },
            Self::Many(lists) => *lists,
        };
        change(&mut lists);
        if lists.services.len() + lists.endpoints.len() > 1 {
            *self = Self::Many(Box::new(lists));
        } else if let Some(key) = lists.services.pop_first() {
            *self = Self::Service(key);
        } else if let Some(endpoint) = lists.endpoints.pop_first() {
            *self = Self::Endpoint(endpoint);
        }
    }

    /// The Services that are *charged* for the reverse name: for each of them its size counts toward the share of the
    /// Service's namespace. They are the Service that has the address, or else the first Service of each namespace with such
    /// an endpoint. A tenant may list addresses of other namespaces, so each namespace is charged, and the name is kept while
    /// one of them has room for it. If no message holds the endpoints, the name passes anyway, and only the first Service is
    /// charged.
    fn charged(&self) -> impl Iterator<Item = &Arc<Key>> {
        let service = self.service();
        let endpoints = if service.is_some() { Endpoints::default() } else { self.endpoints() };
        let mut last: Option<&str> = None;
        let firsts = endpoints.iter().map(|(key, _)| key).filter(move |key| {
            let namespace = Some(&*key.namespace);
            std::mem::replace(&mut last, namespace) != namespace
        });
        let most = if endpoints.len() > RRS_MAX { 1 } else { RRS_MAX };
        service.into_iter().chain(firsts.take(most))
    }

    /// The Services of [`Self::charged`], with the size that each is charged.
    fn charges(&self, address: IpAddr, config: &ClusterConfig) -> Vec<(Arc<Key>, Size)> {
        size::pointers(address, self.service(), self.endpoints(), config)
    }
}

/// Drops the charges that are the same before and after. Both lists are in the order of namespaces.
fn drop_unchanged(before: &mut Vec<(Arc<Key>, Size)>, after: &mut Vec<(Arc<Key>, Size)>) {
    if before.is_empty() || after.is_empty() {
        return;
    }
    let mut others = after.iter().peekable();
    let mut same: HashSet<*const Key> = HashSet::new();
    for (key, size) in &*before {
        while others.next_if(|(other, _)| other.namespace < key.namespace).is_some() {}
        if others.peek().is_some_and(|(other, other_size)| Arc::ptr_eq(other, key) && other_size == size) {
            same.insert(Arc::as_ptr(key));
        }
    }
    for list in [before, after] {
        list.retain(|(key, _)| !same.contains(&Arc::as_ptr(key)));
    }
}

/// The targets of an address' PTR records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pointer<'a> {
    /// The name of a Service.
    Service(&'a Key),
    /// The names of endpoints.
    Endpoints(Endpoints<'a>),
}

/// All addresses of Services and endpoints, with their owners.
#[derive(Debug, Default)]
pub(super) struct Reverse(HashMap<IpAddr, AddressOwners>);

impl Reverse {
    pub(super) fn get(&self, address: IpAddr) -> Option<Pointer<'_>> {
        let owners = self.0.get(&address)?;
        Some(match owners.service() {
            Some(key) => Pointer::Service(key),
            None => Pointer::Endpoints(owners.endpoints()),
        })
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.keys().copied()
    }

    /// The Services that are charged for the reverse name of an address.
    pub(super) fn charged(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Key>> {
        self.0.get(&address).into_iter().flat_map(AddressOwners::charged)
    }

    /// Counts the sizes of all reverse names.
    pub(super) fn count(&self, config: &ClusterConfig, shares: &mut Shares) {
        for (key, size) in self.0.iter().flat_map(|(address, owners)| owners.charges(*address, config)) {
            shares.count(&key, Sizes::default(), only(NameGroup::Pointers, size));
        }
    }

    /// Follows the change of the entry `key`. Adds the affected addresses to `changed`, with whether their reverse names may
    /// be in the maps. Counts the changed charges of other Services. Returns the sizes that `key` is no longer charged for,
    /// and those that it is charged for now.
    pub(super) fn update(
        &mut self,
        key: &Arc<Key>,
        [old, new]: [&Entry; 2],
        config: &ClusterConfig,
        shares: &mut Shares,
        changed: &mut HashMap<IpAddr, bool>,
    ) -> [Size; 2] {
        let mut own = [Size::default(); 2];
        let mut change = |address: IpAddr, change: &dyn Fn(&mut Lists)| {
            let owners = self.0.entry(address).or_default();
            let mut before = owners.charges(address, config);
            let is_held = before.iter().any(|(key, _)| !shares.withheld(key).has(NameGroup::Pointers));
            owners.change(change);
            let mut after = owners.charges(address, config);
            if after.is_empty() {
                self.0.remove(&address);
            }
            drop_unchanged(&mut before, &mut after);
            let charges = [before, after]
                .into_iter()
                .enumerate()
                .flat_map(|(i, charges)| charges.into_iter().map(move |c| (i, c)));
            for (i, (owner, size)) in charges {
                if Arc::ptr_eq(&owner, key) {
                    own[i] += size;
                } else {
                    let mut sizes = [Sizes::default(); 2];
                    sizes[i] = only(NameGroup::Pointers, size);
                    shares.count(&owner, sizes[0], sizes[1]);
                }
            }
            changed.entry(address).or_insert(is_held);
        };
        let (old_own, new_own) = (own_addresses(old), own_addresses(new));
        for address in old_own.iter().filter(|a| !new_own.contains(a)) {
            change(*address, &|h| _ = h.services.remove(key));
        }
        for address in new_own.iter().filter(|a| !old_own.contains(a)) {
            change(*address, &|h| _ = h.services.insert(Arc::clone(key)));
        }
        for endpoint in endpoints_not_in(old, new) {
            let owner = (Arc::clone(key), endpoint.hostname.clone());
            change(endpoint.address, &|h| _ = h.endpoints.remove(&owner));
        }
        for endpoint in endpoints_not_in(new, old) {
            let owner = (Arc::clone(key), endpoint.hostname.clone());
            change(endpoint.address, &|h| _ = h.endpoints.insert(owner.clone()));
        }
        own
    }
}

/// The cluster IPs of a Service.
pub(super) fn own_addresses(entry: &Entry) -> &[IpAddr] {
    match entry.service.as_deref() {
        Some(Service::ClusterIp { addresses, .. } | Service::Hidden { addresses, .. }) => addresses,
        _ => &[],
    }
}

/// The endpoints of one state of a Service that another state does not have.
fn endpoints_not_in<'a>(from: &'a Entry, to: &'a Entry) -> HashSet<&'a Endpoint> {
    let mut gone: HashSet<&Endpoint> = from.slices_not_in(to).flat_map(|s| &s.endpoints).collect();
    if !gone.is_empty() {
        for (_, endpoint) in to.endpoints() {
            gone.remove(endpoint);
        }
    }
    gone
}

/// The reverse name of an address, in in-addr.arpa (RFC 1035 §3.5) or ip6.arpa (RFC 3596 §2.5).
pub(super) fn name_of(address: IpAddr) -> Option<Name> {
    let text = match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let digits = format!("{:032x}", u128::from(a));
            let nibbles = digits.chars().rev().flat_map(|digit| [digit, '.']);
            nibbles.chain("ip6.arpa".chars()).collect()
        }
    };
    Name::parse(&text).ok()
}

/// The address of a reverse name; None for other names.
pub(super) fn address_of(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&str> = name.labels().map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    let address = match labels[..] {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse().ok()?,
        [ref nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 && nibbles.iter().all(|n| n.len() == 1) => {
            let hex: String = nibbles.iter().rev().copied().collect();
            IpAddr::V6(u128::from_str_radix(&hex, 16).ok()?.into())
        }
        _ => return None,
    };
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_convert_to_addresses_and_back() {
        for (address, text) in [
            ("10.96.0.1", "1.0.96.10.in-addr.arpa."),
            ("fd00::a1", "1.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."),
        ] {
            let address = address.parse().unwrap();
            let name = name_of(address).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(address_of(&name), Some(address));
        }
        for none in ["0.96.10.in-addr.arpa", "a.0.ip6.arpa", "01.0.96.10.in-addr.arpa", "cluster.local"] {
            assert_eq!(address_of(&Name::parse(none).unwrap()), None, "{none}");
        }
    }
}
