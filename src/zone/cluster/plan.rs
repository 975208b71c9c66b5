//! The names of one Service and what they hold, before anything is rendered. Two plans of it tell what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Entry, Port, Protocol, Service, Slice};
use super::slices::{Ports, Slices, Target, Targets, address_set, fits};

/// A name relative to the Service's, without the dot between; empty for the Service itself.
pub(super) type Relative = Arc<str>;

/// The names of a Service.
pub(super) type Plan = BTreeMap<Relative, Content>;

/// What a name holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Records of this Service.
    Host(Host),
    /// An alias, whose answers are not this Service's alone.
    Alias,
    /// It is left to the server, and so is all below it.
    Pass,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// As [`few`] has them; names that have the same share them.
    pub addresses: Arc<[IpAddr]>,
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
    /// Records of so many entries, as CoreDNS counts them, and addresses.
    pub(super) fn new(records: Vec<(Relative, u16)>, entries: usize, addresses: Vec<Target>) -> Self {
        Self { records, weight: weight(entries), addresses }
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
    let slices = Slices::new(entry);
    match entry.service.as_deref() {
        None | Some(Service::ExternalAddress) => return plan,
        Some(Service::Opaque | Service::Hidden { .. }) => {
            plan.insert(root, Content::Pass);
            return plan;
        }
        Some(Service::External(_)) => {
            plan.insert(root, Content::Alias);
            // To the server this asks for any port, as the Service's own name does.
            plan.insert(port_name("", Protocol::None), Content::Pass);
            return plan;
        }
        Some(Service::ClusterIp { addresses, ports }) => add_cluster_ip(&mut plan, &root, entry, addresses, ports),
        Some(Service::Headless) if entry.is_opaque() => {
            plan.insert(root, Content::Pass);
            return plan;
        }
        Some(Service::Headless) => add_headless(&mut plan, &root, &slices),
    }
    if !entry.is_opaque() {
        add_endpoints(&mut plan, &slices, labels);
    }
    plan
}

/// `_port._proto`; CoreDNS' rule for stripping underscores leaves an empty name for a port without one.
fn port_name(name: &str, protocol: Protocol) -> Relative {
    format!("_{name}._{}", protocol.label()).into()
}

/// What can be asked for in front of a Service's name, and for the name itself as that of no protocol: ports by name and
/// protocol, by who has them. An empty name or protocol asks for all, as [`Port::matches`] has it. There may be thousands,
/// which are not all looked at for each.
struct PortNames<'a>(HashMap<(&'a str, Protocol), Vec<(u32, Ports)>>);

/// Of the Service's own name.
const OWN_NAME: (&str, Protocol) = ("", Protocol::None);

impl<'a> PortNames<'a> {
    /// From lists of ports by number.
    fn new(lists: impl Iterator<Item = (u32, &'a [Port])>) -> Self {
        let mut ports: HashMap<_, Vec<(u32, Ports)>> = HashMap::from([(OWN_NAME, Vec::new())]);
        let mut nameless = HashSet::from([Protocol::None]);
        for (i, port) in lists.flat_map(|(i, ports)| ports.iter().map(move |p| (i, p))) {
            let mut add = |name: &'a str, protocol| {
                let holders = ports.entry((name, protocol)).or_default();
                if holders.last().is_none_or(|(last, _)| *last != i) {
                    holders.push((i, Ports::default()));
                }
                if let Some((_, ports)) = holders.last_mut() {
                    ports.add(port);
                }
            };
            add("", Protocol::None);
            if port.protocol == Protocol::None {
                continue;
            }
            add("", port.protocol);
            if port.name.is_empty() {
                nameless.insert(port.protocol);
            } else {
                add(&port.name, port.protocol);
            }
        }
        // Only a port without a name makes a name for all of its protocol.
        ports.retain(|(name, protocol), _| !name.is_empty() || nameless.contains(protocol));
        Self(ports)
    }

    fn hosts(self, root: &Relative, mut host: impl FnMut(&[(u32, Ports)], bool) -> Host) -> Plan {
        let hosts = self.0.into_iter().map(|((name, protocol), holders)| {
            let is_root = (name, protocol) == OWN_NAME;
            let name = if is_root { Relative::clone(root) } else { port_name(name, protocol) };
            (name, Content::Host(host(&holders, is_root)))
        });
        hosts.collect()
    }
}

fn add_cluster_ip(plan: &mut Plan, root: &Relative, entry: &Entry, addresses: &[IpAddr], ports: &[Port]) {
    let own = address_set(addresses.iter().copied());
    let targets = Targets::new(own.iter().map(|a| (Relative::clone(root), *a)).collect());
    plan.append(&mut PortNames::new(std::iter::once((0, ports))).hosts(root, |holders, is_root| {
        let count = holders.iter().map(|(_, ports)| ports.count * addresses.len()).sum();
        let numbers = holders.first().map_or(&[][..], |(_, ports)| &ports.numbers);
        Host {
            addresses: Arc::clone(&own),
            aliased: false,
            services: targets.services(numbers, count),
            closed: is_root && !entry.is_opaque(),
        }
    }));
}

fn add_headless(plan: &mut Plan, root: &Relative, slices: &Slices) {
    let lists = || slices.iter().filter(|(_, slice)| !slice.is_empty()).map(|(i, slice)| (i, &*slice.ports));
    if lists().next().is_none() {
        return;
    }
    plan.append(&mut PortNames::new(lists()).hosts(root, |holders, is_root| {
        let numbers: Vec<u32> = holders.iter().map(|(i, _)| *i).collect();
        Host {
            addresses: slices.addresses(&numbers),
            aliased: numbers.iter().any(|i| !slices.get(*i).aliases.is_empty()),
            services: slices.services(holders),
            closed: is_root,
        }
    }));
}

fn add_endpoints(plan: &mut Plan, slices: &Slices, labels: Option<&HashSet<Box<str>>>) {
    // By label: its slice, and its address where it is not the name of another host.
    let mut all: Vec<(Relative, u32, Option<IpAddr>)> = Vec::new();
    let mut text = String::new();
    for (i, slice) in slices.iter() {
        for endpoint in &slice.endpoints {
            let label = endpoint.label_in(&mut text);
            if labels.is_none_or(|labels| labels.contains(label)) {
                all.push((label.into(), i, Some(endpoint.address)));
            }
        }
        for label in slice.aliases.iter().filter(|label| labels.is_none_or(|labels| labels.contains(*label))) {
            all.push((Relative::from(&**label), i, None));
        }
    }
    all.sort_unstable();
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let label = &group[0].0;
        let endpoints = || group.iter().filter_map(|(_, i, address)| Some((*i, (*address)?)));
        let host = Host {
            addresses: address_set(endpoints().map(|(_, address)| address)),
            aliased: group.iter().any(|(.., address)| address.is_none()),
            services: endpoint_services(slices, label, endpoints()),
            closed: false,
        };
        plan.insert(Relative::clone(label), Content::Host(host));
    }
}

/// The SRV records of an endpoint's name, which slices list with these addresses.
fn endpoint_services(
    slices: &Slices,
    label: &Relative,
    endpoints: impl Iterator<Item = (u32, IpAddr)> + Clone,
) -> Option<Services> {
    let count = endpoints.clone().map(|(i, _)| slices.get(i).ports.len()).sum();
    let numbered = endpoints.filter(|(i, _)| !slices.ports(*i).numbers.is_empty());
    let addresses: Vec<Target> = numbered.clone().map(|(_, address)| (Relative::clone(label), address)).collect();
    let mut holders: Vec<u32> = numbered.map(|(i, _)| i).collect();
    holders.dedup();
    if let [only] = holders[..] {
        return Targets::new(addresses).into_services(&slices.ports(only).numbers, count);
    }
    let mut numbers = Vec::new();
    for i in holders {
        numbers.extend(&slices.ports(i).numbers);
        numbers.sort_unstable();
        numbers.dedup();
        if !fits(numbers.len(), 0) {
            return None;
        }
    }
    Targets::new(addresses).into_services(&numbers, count)
}
