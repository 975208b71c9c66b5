//! Addresses to names: PTR.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Settings;
use super::model::{Endpoint, Entry, Service};
use super::share::{Part, Shares, Size, Sizes, only};
use super::size;
use super::spec::Key;
use crate::zone::name::Name;

/// Who has an address. Both sorted; the first Service would outrank others, if the API let two have one address.
#[derive(Debug, Default)]
struct Holders {
    services: Vec<Arc<Key>>,
    /// A Service, and the endpoint's hostname below it.
    endpoints: Vec<(Arc<Key>, Option<Box<str>>)>,
}

impl Holders {
    /// The Service that its name counts as one of, whoever else has it.
    fn first(&self) -> Option<&Arc<Key>> {
        self.services.first().or(self.endpoints.first().map(|(key, _)| key))
    }

    /// That, and what the name takes.
    fn charge(&self, address: IpAddr, settings: &Settings) -> Option<(Arc<Key>, Size)> {
        let key = self.first()?;
        let targets = if self.services.is_empty() { &*self.endpoints } else { &[] };
        Some((Arc::clone(key), size::pointer(address, key, targets, settings)))
    }
}

/// What an address stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pointer<'a> {
    /// A Service.
    Service(&'a Key),
    /// Endpoints of Services.
    Endpoints(&'a [(Arc<Key>, Option<Box<str>>)]),
}

/// All addresses that stand for a name.
#[derive(Debug, Default)]
pub(super) struct Reverse(HashMap<IpAddr, Holders>);

impl Reverse {
    pub(super) fn get(&self, address: IpAddr) -> Option<Pointer<'_>> {
        let holders = self.0.get(&address)?;
        Some(match holders.services.first() {
            Some(key) => Pointer::Service(key),
            None => Pointer::Endpoints(&holders.endpoints),
        })
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.keys().copied()
    }

    /// The Service whose share the name of an address counts to.
    pub(super) fn holder(&self, address: IpAddr) -> Option<&Arc<Key>> {
        self.0.get(&address)?.first()
    }

    /// Counts all names.
    pub(super) fn count(&self, settings: &Settings, shares: &mut Shares) {
        for (key, size) in self.0.iter().filter_map(|(address, holders)| holders.charge(*address, settings)) {
            shares.count(&key, Sizes::default(), only(Part::Pointers, size));
        }
    }

    /// Follows a change of what is known of `key`; adds the addresses that it changes something for to `changed`. Counts what
    /// that changes for others, and returns what it does for `key`: by so much less and more than before.
    pub(super) fn update(
        &mut self,
        key: &Arc<Key>,
        [old, new]: [&Entry; 2],
        settings: &Settings,
        shares: &mut Shares,
        changed: &mut HashSet<IpAddr>,
    ) -> [Size; 2] {
        let mut own = [Size::default(); 2];
        let mut change = |address: IpAddr, change: &dyn Fn(&mut Holders)| {
            let holders = self.0.entry(address).or_default();
            let before = holders.charge(address, settings);
            change(holders);
            let after = holders.charge(address, settings);
            if holders.first().is_none() {
                self.0.remove(&address);
            }
            for (i, (holder, size)) in [before, after].into_iter().enumerate().filter_map(|(i, c)| Some((i, c?))) {
                if Arc::ptr_eq(&holder, key) {
                    own[i] += size;
                } else {
                    let mut sizes = [Sizes::default(); 2];
                    sizes[i] = only(Part::Pointers, size);
                    shares.count(&holder, sizes[0], sizes[1]);
                }
            }
            changed.insert(address);
        };
        let (old_own, new_own) = (own_addresses(old), own_addresses(new));
        for address in old_own.iter().filter(|a| !new_own.contains(a)) {
            change(*address, &|h| take(&mut h.services, key));
        }
        for address in new_own.iter().filter(|a| !old_own.contains(a)) {
            change(*address, &|h| insert(&mut h.services, Arc::clone(key)));
        }
        for endpoint in gone(old, new) {
            let holder = (Arc::clone(key), endpoint.hostname.clone());
            change(endpoint.address, &|h| take(&mut h.endpoints, &holder));
        }
        for endpoint in gone(new, old) {
            let holder = (Arc::clone(key), endpoint.hostname.clone());
            change(endpoint.address, &|h| insert(&mut h.endpoints, holder.clone()));
        }
        own
    }
}

/// A Service's own.
pub(super) fn own_addresses(entry: &Entry) -> &[IpAddr] {
    match entry.service.as_deref() {
        Some(Service::ClusterIp { addresses, .. }) => addresses,
        _ => &[],
    }
}

/// Endpoints that one state of a Service has and another has not.
fn gone<'a>(from: &'a Entry, to: &'a Entry) -> HashSet<&'a Endpoint> {
    let mut gone: HashSet<&Endpoint> = from.slices_not_in(to).flat_map(|s| &s.endpoints).collect();
    if !gone.is_empty() {
        for (_, endpoint) in to.endpoints() {
            gone.remove(endpoint);
        }
    }
    gone
}

fn insert<T: Ord>(sorted: &mut Vec<T>, item: T) {
    if let Err(at) = sorted.binary_search(&item) {
        // Most addresses have one holder.
        sorted.reserve_exact(usize::from(sorted.is_empty()));
        sorted.insert(at, item);
    }
}

fn take<T: Ord>(sorted: &mut Vec<T>, item: &T) {
    if let Ok(at) = sorted.binary_search(item) {
        sorted.remove(at);
    }
}

/// The name in in-addr.arpa (RFC 1035 §3.5) or ip6.arpa (RFC 3596 §2.5).
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

/// The address that such a name is for.
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
    fn reverse_names_lead_back() {
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
