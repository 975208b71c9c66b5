//! The names of one Service and what they hold, before anything is rendered. Two plans of it tell what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Endpoint, Entry, Port, Protocol, Service, Slice};
use crate::zone::render::RECORDS_MAX;

/// A name relative to the Service's, without the dot between; empty for the Service itself.
pub(super) type Relative = Arc<str>;

/// The names of a Service.
pub(super) type Plan = BTreeMap<Relative, Holds>;

/// What a name holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holds {
    /// Records of this Service.
    Host(Host),
    /// An alias, whose answers are not this Service's alone.
    Alias,
    /// It is left to the server, and so is all below it.
    Pass,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Sorted, each once.
    pub addresses: Vec<IpAddr>,
    /// Whether it is an alias, too: then addresses are the server's to find, since that may have to ask others.
    pub aliased: bool,
    /// None: more than a message holds.
    pub services: Option<Services>,
    /// Whether names one label below that are not in the plan don't exist.
    pub closed: bool,
}

/// SRV records, with the addresses of their targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Services {
    /// Targets and ports.
    pub records: Vec<(Relative, u16)>,
    pub weight: u16,
    pub addresses: Vec<(Relative, IpAddr)>,
}

/// 100 divided by the entries, as CoreDNS reckons it.
fn weight(entries: usize) -> u16 {
    (100.0 / (100 * entries) as f64 * 100.0).floor().max(1.0) as u16
}

impl Services {
    /// CoreDNS' order of things: every entry counts, those without a port number too, but what is listed is each target and
    /// port once, whatever the protocol, and each of its addresses once.
    fn collect<'a>(count: usize, entries: impl Iterator<Item = (Relative, IpAddr, &'a Port)>) -> Option<Self> {
        let (mut records, mut addresses) = (Vec::new(), Vec::new());
        let fits = |records: &mut Vec<_>, addresses: &mut Vec<_>| {
            records.sort_unstable();
            records.dedup();
            addresses.sort_unstable();
            addresses.dedup();
            records.len() + addresses.len() <= RECORDS_MAX
        };
        for (target, address, port) in entries {
            let Some(number) = port.number else { continue };
            records.push((Relative::clone(&target), number));
            addresses.push((target, address));
            // There may be very many.
            if records.len() > 2 * RECORDS_MAX && !fits(&mut records, &mut addresses) {
                return None;
            }
        }
        fits(&mut records, &mut addresses).then(|| Self { records, weight: weight(count), addresses })
    }
}

/// The endpoints by which two states of a Service may differ, by label; None: all. A change of one slice need not look at
/// the names of all others.
pub(super) fn endpoints_between(old: &Entry, new: &Entry) -> Option<HashSet<Box<str>>> {
    if old.service != new.service || old.is_opaque() != new.is_opaque() {
        return None;
    }
    let (gone, come) = (old.slices_not_in(new), new.slices_not_in(old));
    Some(gone.chain(come).flat_map(Slice::labels).collect())
}

/// The names that exist while the namespace does; of endpoints only those that are among `labels`, if there are any.
pub(super) fn plan(entry: &Entry, labels: Option<&HashSet<Box<str>>>) -> Plan {
    let mut plan = Plan::new();
    let root: Relative = "".into();
    match entry.service.as_deref() {
        None | Some(Service::Nothing) => return plan,
        Some(Service::Opaque) => {
            plan.insert(root, Holds::Pass);
            return plan;
        }
        Some(Service::External(_)) => {
            plan.insert(root, Holds::Alias);
            // To the server this asks for any port, as the Service's own name does.
            plan.insert(port_name("", Protocol::None), Holds::Pass);
            return plan;
        }
        Some(Service::ClusterIp { addresses, ports }) => add_cluster_ip(&mut plan, &root, entry, addresses, ports),
        Some(Service::Headless) if entry.is_opaque() => {
            plan.insert(root, Holds::Pass);
            return plan;
        }
        Some(Service::Headless) => add_headless(&mut plan, &root, entry),
    }
    if !entry.is_opaque() {
        add_endpoints(&mut plan, entry, labels);
    }
    plan
}

fn sorted(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// `_port._proto`; CoreDNS' rule for stripping underscores leaves an empty name for a port without one.
fn port_name(name: &str, protocol: Protocol) -> Relative {
    format!("_{name}._{}", protocol.label()).into()
}

/// What can be asked for in front of a Service's name: ports by name and protocol, each once.
fn named<'a>(ports: impl Iterator<Item = &'a Port>) -> HashSet<(&'a str, Protocol)> {
    ports.filter(|p| p.protocol != Protocol::None).map(|p| (&*p.name, p.protocol)).collect()
}

fn add_cluster_ip(plan: &mut Plan, root: &Relative, entry: &Entry, addresses: &[IpAddr], ports: &[Port]) {
    let host = |matching: &[&Port], closed| {
        let entries = matching.iter().flat_map(|p| addresses.iter().map(move |a| (root.clone(), *a, *p)));
        Holds::Host(Host {
            addresses: sorted(addresses.iter().copied()),
            aliased: false,
            services: Services::collect(matching.len() * addresses.len(), entries),
            closed,
        })
    };
    let matching =
        |name: &str, protocol: &str| -> Vec<&Port> { ports.iter().filter(|p| p.matches(name, protocol)).collect() };
    plan.insert(root.clone(), host(&matching("", ""), !entry.is_opaque()));
    // Thousands are possible: they are not all looked at for each.
    let mut named: HashMap<(&str, Protocol), Vec<&Port>> = HashMap::new();
    for port in ports.iter().filter(|p| p.protocol != Protocol::None) {
        named.entry((&*port.name, port.protocol)).or_default().push(port);
    }
    for ((name, protocol), own) in named {
        let all = if name.is_empty() { matching("", protocol.label()) } else { own };
        plan.insert(port_name(name, protocol), host(&all, false));
    }
}

fn add_headless(plan: &mut Plan, root: &Relative, entry: &Entry) {
    let slices = || entry.slices.iter().filter(|s| !s.is_empty());
    if slices().next().is_none() {
        return;
    }
    let host = |name: &str, protocol: &str, closed| {
        let matching = |slice: &'_ Slice| slice.ports.iter().filter(|p| p.matches(name, protocol)).count();
        let count = slices().map(|s| s.endpoints.len() * matching(s)).sum();
        let entries = entry.endpoints().flat_map(|(slice, endpoint)| {
            let ports = slice.ports.iter().filter(|p| p.matches(name, protocol));
            ports.map(|p| (endpoint.label().into(), endpoint.address, p))
        });
        let holders = || slices().filter(|s| matching(s) > 0);
        Holds::Host(Host {
            addresses: sorted(holders().flat_map(|s| s.endpoints.iter().map(|e| e.address))),
            aliased: holders().any(|s| !s.aliases.is_empty()),
            services: Services::collect(count, entries),
            closed,
        })
    };
    plan.insert(root.clone(), host("", "", true));
    for (name, protocol) in named(slices().flat_map(|s| &s.ports)) {
        plan.insert(port_name(name, protocol), host(name, protocol.label(), false));
    }
}

/// The endpoints of one label.
#[derive(Default)]
struct Alike<'a> {
    endpoints: Vec<(&'a Slice, &'a Endpoint)>,
    aliased: bool,
}

fn add_endpoints(plan: &mut Plan, entry: &Entry, labels: Option<&HashSet<Box<str>>>) {
    let is_asked = |label: &str| labels.is_none_or(|labels| labels.contains(label));
    let mut by_label: HashMap<Box<str>, Alike<'_>> = HashMap::new();
    for (slice, endpoint) in entry.endpoints() {
        let label = endpoint.label();
        if is_asked(&label) {
            by_label.entry(label).or_default().endpoints.push((slice, endpoint));
        }
    }
    for label in entry.slices.iter().flat_map(|s| &s.aliases).filter(|l| is_asked(l)) {
        by_label.entry(label.clone()).or_default().aliased = true;
    }
    for (label, Alike { endpoints, aliased }) in by_label {
        let label: Relative = label.into();
        let count = endpoints.iter().map(|(s, _)| s.ports.len()).sum();
        let entries = endpoints.iter().flat_map(|(s, e)| s.ports.iter().map(|p| (label.clone(), e.address, p)));
        let host = Host {
            addresses: sorted(endpoints.iter().map(|(_, e)| e.address)),
            aliased,
            services: Services::collect(count, entries),
            closed: false,
        };
        plan.insert(label, Holds::Host(host));
    }
}
