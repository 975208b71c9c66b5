//! Follows ExternalNames to their addresses, as CoreDNS does (its `plugin.A`).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Entry, Port, Service, labels_in};
use super::slices::{Slices, address_set};
use super::spec::Key;
use super::{ClusterConfig, Objects};
use crate::zone::name::Name;

/// The most aliases in an answer. CoreDNS answers longer chains with NODATA.
const CHAIN_MAX: usize = 11;

/// The end of a chain of aliases.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// The names, each the target of the one before, and the addresses of the last one, as returned by [`address_set`].
    Addresses(Vec<Name>, Arc<[IpAddr]>),
    /// NODATA: the chain ends at a name without addresses, or it is a loop.
    Nodata,
    /// The chain leaves the names that eDNS knows: the query passes.
    Unknown,
}

/// The step from one name of a chain to the next.
#[derive(Clone)]
enum Step {
    Addresses(Arc<[IpAddr]>),
    Alias(Name),
    Nodata,
    Unknown,
}

/// Resolves the names of chains, for one state of the objects. A tenant may have thousands of aliases of a Service with
/// thousands of endpoints, so the endpoints are read only once.
#[derive(Default)]
pub(super) struct Resolver {
    by_name: HashMap<Name, Step>,
    endpoints: HashMap<Key, Labels>,
    ports: HashMap<Key, PortSteps>,
    hash: RandomState,
}

/// The steps from the ports of a Service. Each port name and protocol is followed once; the cost is the number of slices that
/// have the port.
struct PortSteps {
    /// All ports: the hash of name and protocol, the number of the list (a slice, or 0 for the Service's own ports) and the
    /// index in the list. Sorted.
    by_hash: Vec<(u64, u32, u32)>,
    slices: Slices,
    known: HashMap<(String, String), Step>,
}

/// The labels of a Service's endpoints: the hash, the number of the slice and the index in the slice. Sorted. The labels
/// themselves are left out to save memory.
struct Labels(Vec<(u64, u32, u32)>);

/// The endpoints with one label.
#[derive(Default)]
struct LabelEndpoints {
    addresses: Vec<IpAddr>,
    /// Whether one of them is a host name.
    aliased: bool,
}

impl Resolver {
    fn get(&mut self, objects: &Objects, zone: &Name, name: &Name) -> Step {
        if let Some(step) = self.by_name.get(name) {
            return step.clone();
        }
        let step = self.step(objects, zone, name);
        self.by_name.insert(name.clone(), step.clone());
        step
    }

    fn step(&mut self, objects: &Objects, zone: &Name, name: &Name) -> Step {
        let Some(labels) = labels_in(name, zone) else { return Step::Unknown };
        match labels[..] {
            [.., "dns"] => Step::Unknown,
            // CoreDNS ignores up to two labels in front of a pod's name.
            [.., pod, namespace, "pod"] if labels.len() <= 5 && objects.namespaces.contains(namespace) => {
                pod_address(pod).map_or(Step::Nodata, |a| Step::Addresses([a].into()))
            }
            [ref below @ .., service, namespace, "svc"] if objects.namespaces.contains(namespace) => {
                let key = Key::new(namespace, service);
                objects.services.get(&key).map_or(Step::Nodata, |entry| self.step_at(&key, entry, below))
            }
            _ => Step::Nodata,
        }
    }

    /// The step from labels below a Service's name.
    fn step_at(&mut self, key: &Key, entry: &Entry, below: &[&str]) -> Step {
        let strip = |label: &'_ str| label.strip_prefix('_').unwrap_or(label).to_owned();
        let (endpoint, port, protocol) = match *below {
            [] => (None, String::new(), String::new()),
            [endpoint] => (Some(endpoint), String::new(), String::new()),
            [port, protocol] => (None, strip(port), strip(protocol)),
            _ => return Step::Nodata,
        };
        let addresses = match entry.service.as_deref() {
            Some(Service::ClusterIp { .. } | Service::Headless) if endpoint.is_none() => {
                let hash = &self.hash;
                let steps = self.ports.entry(key.clone()).or_insert_with(|| PortSteps::new(entry, hash));
                return steps.step(entry, (port, protocol), hash);
            }
            None | Some(Service::ExternalAddress) => return Step::Nodata,
            Some(Service::Opaque | Service::Hidden { .. }) => return Step::Unknown,
            Some(Service::External(target)) if endpoint.is_none() && port.is_empty() && protocol.is_empty() => {
                return Step::Alias(target.clone());
            }
            Some(Service::External(_)) => return Step::Nodata,
            Some(_) if entry.is_opaque() => return Step::Unknown,
            Some(_) => {
                let Some(endpoint) = endpoint else { return Step::Unknown };
                let hash = &self.hash;
                let labels = self.endpoints.entry(key.clone()).or_insert_with(|| Labels::new(entry, hash));
                match labels.find(entry, endpoint, hash) {
                    None => return Step::Nodata,
                    Some(endpoints) if endpoints.aliased => return Step::Unknown,
                    Some(endpoints) => address_set(endpoints.addresses.into_iter()),
                }
            }
        };
        Step::from_addresses(addresses)
    }
}

impl Step {
    fn from_addresses(addresses: Arc<[IpAddr]>) -> Self {
        if addresses.is_empty() { Self::Nodata } else { Self::Addresses(addresses) }
    }
}

/// The ports of a Service with cluster IPs, or else those of the slice with this number.
fn list_of_ports(entry: &Entry, list: usize) -> &[Port] {
    match entry.service.as_deref() {
        Some(Service::ClusterIp { ports, .. }) => ports,
        _ => &entry.slices[list].ports,
    }
}

impl PortSteps {
    fn new(entry: &Entry, hash: &RandomState) -> Self {
        let lists =
            if matches!(entry.service.as_deref(), Some(Service::ClusterIp { .. })) { 1 } else { entry.slices.len() };
        let mut by_hash = Vec::new();
        for list in 0..lists {
            let mut protocols = [false; 4];
            for (at, port) in list_of_ports(entry, list).iter().enumerate() {
                let protocol = port.protocol.label();
                let mut add = |name: &str, protocol: &str| {
                    by_hash.push((hash.hash_one((name, protocol)), list as u32, at as u32));
                };
                if !port.name.is_empty() {
                    add(&port.name, protocol);
                    add(&port.name, "");
                }
                // An empty name or protocol matches all ports (`Port::matches`).
                if !std::mem::replace(&mut protocols[port.protocol as usize], true) {
                    add("", protocol);
                    add("", "");
                }
            }
        }
        by_hash.sort_unstable();
        Self { by_hash, slices: Slices::new(entry), known: HashMap::new() }
    }

    /// The lists that have a port with this name and protocol, in ascending order.
    fn lists(&self, entry: &Entry, (name, protocol): (&str, &str), hash: &RandomState) -> Vec<u32> {
        let wanted = hash.hash_one((name, protocol));
        let from = self.by_hash.partition_point(|(hash, ..)| *hash < wanted);
        let candidates = self.by_hash[from..].iter().take_while(|(hash, ..)| *hash == wanted);
        let matches = |list: u32, at: u32| {
            #[cfg(test)]
            super::slices::steps::count(1);
            list_of_ports(entry, list as usize)[at as usize].matches(name, protocol)
        };
        let mut lists: Vec<u32> =
            candidates.filter(|(_, list, at)| matches(*list, *at)).map(|(_, list, _)| *list).collect();
        lists.dedup();
        lists
    }

    fn step(&mut self, entry: &Entry, asked: (String, String), hash: &RandomState) -> Step {
        if let Some(known) = self.known.get(&asked) {
            return known.clone();
        }
        let lists = self.lists(entry, (&asked.0, &asked.1), hash);
        let step = match entry.service.as_deref() {
            Some(Service::ClusterIp { addresses, .. }) => {
                Step::from_addresses(address_set(addresses.iter().copied().filter(|_| !lists.is_empty())))
            }
            _ if entry.is_opaque() || lists.iter().any(|i| !self.slices.get(*i).aliases.is_empty()) => Step::Unknown,
            _ => Step::from_addresses(self.slices.addresses(&lists)),
        };
        self.known.insert(asked, step.clone());
        step
    }
}

impl Labels {
    fn new(entry: &Entry, hash: &RandomState) -> Self {
        let slices = (0..).zip(&entry.slices).filter(|(_, s)| !s.ports.is_empty());
        let labels = slices.flat_map(|(i, s)| (0..).zip(s.labels()).map(move |(at, label)| (i, at, label)));
        let mut labels: Vec<_> = labels.map(|(i, at, label)| (hash.hash_one(&*label), i, at)).collect();
        labels.sort_unstable();
        Self(labels)
    }

    /// The endpoints with this label; None if no endpoint has it.
    fn find(&self, entry: &Entry, label: &str, hash: &RandomState) -> Option<LabelEndpoints> {
        let wanted = hash.hash_one(label);
        let from = self.0.partition_point(|(hash, ..)| *hash < wanted);
        let mut found = None;
        for (_, i, at) in self.0[from..].iter().take_while(|(hash, ..)| *hash == wanted) {
            let (slice, at) = (&entry.slices[*i as usize], *at as usize);
            match slice.endpoints.get(at) {
                Some(endpoint) if *endpoint.label() == *label => {
                    found.get_or_insert_with(LabelEndpoints::default).addresses.push(endpoint.address);
                }
                None if *slice.aliases[at - slice.endpoints.len()] == *label => {
                    found.get_or_insert_with(LabelEndpoints::default).aliased = true;
                }
                _ => {}
            }
        }
        found
    }
}

/// Follows the alias `owner` to `target` and on.
pub(super) fn follow(
    resolver: &mut Resolver,
    objects: &Objects,
    config: &ClusterConfig,
    owner: &Name,
    target: &Name,
) -> Chain {
    let mut chain: Vec<Name> = Vec::new();
    let mut target = target.clone();
    loop {
        let from = chain.last().unwrap_or(owner);
        // A name that the chain already has makes it a loop.
        if target.is_within(from) || chain.len() == CHAIN_MAX || chain.contains(&target) || target == *owner {
            return Chain::Nodata;
        }
        // The DNS server may answer names in PassNames with other records.
        if !target.is_within(&config.zone) || config.pass.covers(&target) {
            return Chain::Unknown;
        }
        let step = resolver.get(objects, &config.zone, &target);
        chain.push(target);
        match step {
            Step::Addresses(addresses) => return Chain::Addresses(chain, addresses),
            Step::Alias(next) => target = next,
            Step::Nodata => return Chain::Nodata,
            Step::Unknown => return Chain::Unknown,
        }
    }
}

/// The address in the label of a pod's name. CoreDNS takes an IPv4-mapped IPv6 address as IPv4.
fn pod_address(label: &str) -> Option<IpAddr> {
    let v4 = label.matches('-').count() == 3 && !label.contains("--");
    let address: IpAddr = label.replace('-', if v4 { "." } else { ":" }).parse().ok()?;
    Some(address.to_canonical())
}
