//! Where an ExternalName leads, as CoreDNS follows it (its `plugin.A`).

use std::net::IpAddr;

use super::model::{Endpoint, Entry, Labelled, Service, labels_in};
use super::spec::Key;
use super::{Objects, Settings};
use crate::zone::name::Name;

/// Aliases in an answer, at most; where there would be more there is none.
const CHAIN_MAX: usize = 11;

/// The end of a chain of aliases.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// These names, each the alias of the one before, the last with these addresses of either family.
    Addresses(Vec<Name>, Vec<IpAddr>),
    /// NODATA: it ends at no address, or never.
    Nothing,
    /// Out of what we know: the server has to look.
    Leaves,
}

/// What one name leads to.
enum Step<'a> {
    Addresses(Vec<IpAddr>),
    Alias(&'a Name),
    Nothing,
    Unknown,
}

/// Follows the alias of `owner`.
pub(super) fn follow(objects: &Objects, settings: &Settings, owner: &Name, target: &Name) -> Chain {
    let mut chain: Vec<Name> = Vec::new();
    let mut target = target;
    loop {
        let from = chain.last().unwrap_or(owner);
        // A name that is met again can only lead where it led before.
        if target.is_within(from) || chain.len() == CHAIN_MAX || chain.contains(target) || target == owner {
            return Chain::Nothing;
        }
        // Who lists a name in PassNames has a server that answers otherwise for it.
        if !target.is_within(&settings.zone) || settings.pass.covers(target) {
            return Chain::Leaves;
        }
        chain.push(target.clone());
        match step(objects, &settings.zone, target) {
            Step::Addresses(addresses) => return Chain::Addresses(chain, addresses),
            Step::Alias(next) => target = next,
            Step::Nothing => return Chain::Nothing,
            Step::Unknown => return Chain::Leaves,
        }
    }
}

fn step<'a>(objects: &'a Objects, zone: &Name, name: &Name) -> Step<'a> {
    let Some(labels) = labels_in(name, zone) else { return Step::Unknown };
    match labels[..] {
        [.., "dns"] => Step::Unknown,
        // Up to two labels in front of a pod's name are not looked at.
        [.., pod, namespace, "pod"] if labels.len() <= 5 && objects.namespaces.contains(namespace) => {
            pod_address(pod).map_or(Step::Nothing, |a| Step::Addresses(vec![a]))
        }
        [ref below @ .., service, namespace, "svc"] if objects.namespaces.contains(namespace) => {
            objects.services.get(&Key::new(namespace, service)).map_or(Step::Nothing, |entry| step_at(entry, below))
        }
        _ => Step::Nothing,
    }
}

/// The step from labels below a Service's name.
fn step_at<'a>(entry: &'a Entry, below: &[&str]) -> Step<'a> {
    let strip = |label: &'_ str| label.strip_prefix('_').unwrap_or(label).to_owned();
    let (endpoint, port, protocol) = match *below {
        [] => (None, String::new(), String::new()),
        [endpoint] => (Some(endpoint), String::new(), String::new()),
        [port, protocol] => (None, strip(port), strip(protocol)),
        _ => return Step::Nothing,
    };
    let addresses: Vec<IpAddr> = match entry.service.as_deref() {
        None | Some(Service::Nothing) => return Step::Nothing,
        Some(Service::Opaque) => return Step::Unknown,
        Some(Service::External(target)) if below.is_empty() => return Step::Alias(target),
        Some(Service::External(_)) => return Step::Nothing,
        Some(Service::ClusterIp { addresses, ports }) if endpoint.is_none() => {
            if ports.iter().any(|p| p.matches(&port, &protocol)) { addresses.to_vec() } else { Vec::new() }
        }
        Some(_) if entry.is_opaque() => return Step::Unknown,
        Some(_) => {
            let labelled = endpoint.map(Labelled::new);
            let slices = || entry.slices.iter().filter(|s| s.ports.iter().any(|p| p.matches(&port, &protocol)));
            if slices().flat_map(|s| &s.aliases).any(|label| endpoint.is_none_or(|endpoint| *endpoint == **label)) {
                return Step::Unknown;
            }
            let asked = |e: &&Endpoint| labelled.as_ref().is_none_or(|labelled| labelled.is(e));
            let endpoints = slices().flat_map(|s| &s.endpoints).filter(asked);
            let mut addresses: Vec<IpAddr> = endpoints.map(|e| e.address).collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        }
    };
    if addresses.is_empty() { Step::Nothing } else { Step::Addresses(addresses) }
}

/// The address that a pod's name spells.
fn pod_address(label: &str) -> Option<IpAddr> {
    let v4 = label.matches('-').count() == 3 && !label.contains("--");
    label.replace('-', if v4 { "." } else { ":" }).parse().ok()
}
