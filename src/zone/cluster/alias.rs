//! Where an ExternalName leads, as CoreDNS follows it (its `plugin.A`).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Entry, Port, Service, labels_in};
use super::slices::{Slices, address_set};
use super::spec::Key;
use super::{ClusterConfig, Objects};
use crate::zone::name::Name;

/// Aliases in an answer, at most; where there would be more there is none.
const CHAIN_MAX: usize = 11;

/// The end of a chain of aliases.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// These names, each the alias of the one before, the last with these addresses of either family, as [`few`] has them.
    Addresses(Vec<Name>, Arc<[IpAddr]>),
    /// NODATA: it ends at no address, or never.
    Nodata,
    /// Out of what we know: the server has to look.
    Unknown,
}

/// What one name leads to.
#[derive(Clone)]
enum Step {
    Addresses(Arc<[IpAddr]>),
    Alias(Name),
    Nodata,
    Unknown,
}

/// What names lead to while nothing changes. Anybody may have thousands of aliases of a Service with thousands of endpoints,
/// which are looked at once.
#[derive(Default)]
pub(super) struct Steps {
    by_name: HashMap<Name, Step>,
    endpoints: HashMap<Key, Labels>,
    ports: HashMap<Key, PortSteps>,
    hash: RandomState,
}

/// What the ports of a Service lead to. Each name and protocol is followed once, and costs as much as slices have it.
struct PortSteps {
    /// Ports by the hash of name and protocol, as numbers of lists of ports and of ports there; those of the Service are list 0.
    by_hash: Vec<(u64, u32, u32)>,
    slices: Slices,
    known: HashMap<(String, String), Step>,
}

/// The labels of a Service's endpoints by hash, as numbers of slices and of labels there: little for each, since this is kept
/// for all Services that aliases lead to.
struct Labels(Vec<(u64, u32, u32)>);

/// The endpoints of one label.
#[derive(Default)]
struct LabelEndpoints {
    addresses: Vec<IpAddr>,
    /// Whether one of them is the name of another host.
    aliased: bool,
}

impl Steps {
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
            // Up to two labels in front of a pod's name are not looked at.
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
                    Some(candidates) if candidates.aliased => return Step::Unknown,
                    Some(candidates) => address_set(candidates.addresses.into_iter()),
                }
            }
        };
        Step::to(addresses)
    }
}

impl Step {
    fn to(addresses: Arc<[IpAddr]>) -> Self {
        if addresses.is_empty() { Self::Nodata } else { Self::Addresses(addresses) }
    }
}

/// A list of ports of a Service with addresses or of one without.
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
                // An empty name or protocol asks for all, as `Port::matches` has it.
                if !std::mem::replace(&mut protocols[port.protocol as usize], true) {
                    add("", protocol);
                    add("", "");
                }
            }
        }
        by_hash.sort_unstable();
        Self { by_hash, slices: Slices::new(entry), known: HashMap::new() }
    }

    /// The lists with a port that a name asks for, ascending.
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
                Step::to(address_set(addresses.iter().copied().filter(|_| !lists.is_empty())))
            }
            _ if entry.is_opaque() || lists.iter().any(|i| !self.slices.get(*i).aliases.is_empty()) => Step::Unknown,
            _ => Step::to(self.slices.addresses(&lists)),
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

    /// What is there by this label; None where nothing is.
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

/// Follows the alias of `owner`.
pub(super) fn follow(
    steps: &mut Steps,
    objects: &Objects,
    config: &ClusterConfig,
    owner: &Name,
    target: &Name,
) -> Chain {
    let mut chain: Vec<Name> = Vec::new();
    let mut target = target.clone();
    loop {
        let from = chain.last().unwrap_or(owner);
        // A name that is met again can only lead where it led before.
        if target.is_within(from) || chain.len() == CHAIN_MAX || chain.contains(&target) || target == *owner {
            return Chain::Nodata;
        }
        // Who lists a name in PassNames has a server that answers otherwise for it.
        if !target.is_within(&config.zone) || config.pass.covers(&target) {
            return Chain::Unknown;
        }
        let step = steps.get(objects, &config.zone, &target);
        chain.push(target);
        match step {
            Step::Addresses(addresses) => return Chain::Addresses(chain, addresses),
            Step::Alias(next) => target = next,
            Step::Nodata => return Chain::Nodata,
            Step::Unknown => return Chain::Unknown,
        }
    }
}

/// The address that a pod's name spells. One that is mapped into IPv6 is an IPv4 address to the server, too.
fn pod_address(label: &str) -> Option<IpAddr> {
    let v4 = label.matches('-').count() == 3 && !label.contains("--");
    let address: IpAddr = label.replace('-', if v4 { "." } else { ":" }).parse().ok()?;
    Some(address.to_canonical())
}
