//! Plans: the names of one Service with their content, before any node is rendered. A commit compares the plan of the old
//! state with that of the new one to find the names that change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Entry, Port, Protocol, Service, Slice};
use super::slices::{Ports, Slices, Target, Targets, address_set, fits};

/// A name relative to the Service's, without the dot between; empty for the Service itself.
pub(super) type Relative = Arc<str>;

/// The names of a Service.
pub(super) type Plan = BTreeMap<Relative, Content>;

/// The content of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// The records of this Service.
    Host(Host),
    /// A CNAME. Its answers depend on other objects, too.
    Alias,
    /// The name passes, with all names below it.
    Pass,
}

/// The records of a Service's own name, of an endpoint or of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// The addresses, as returned by [`address_set`]. Names with the same addresses share one list.
    pub addresses: Arc<[IpAddr]>,
    /// Whether an endpoint is a host name: queries for addresses pass, since only the DNS server can resolve it.
    pub aliased: bool,
    /// The SRV records; None if no message holds them.
    pub srv: Option<SrvRecords>,
    /// Whether names one label below that are not in the plan get NXDOMAIN.
    pub has_nxdomain: bool,
}

/// SRV records, with the addresses of their targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SrvRecords {
    /// Targets and ports, the latter in host byte order.
    pub records: Vec<(Relative, u16)>,
    pub weight: u16,
    /// Targets and their addresses.
    pub addresses: Vec<(Relative, IpAddr)>,
}

/// The weight of each SRV record, as CoreDNS computes it from the number of its entries.
fn weight(entries: usize) -> u16 {
    (100.0 / (100 * entries) as f64 * 100.0).floor().max(1.0) as u16
}

impl SrvRecords {
    /// The records, with the weight that CoreDNS gives them if it counts `entries` entries, and the addresses of the targets.
    pub(super) fn new(records: Vec<(Relative, u16)>, entries: usize, addresses: Vec<Target>) -> Self {
        Self { records, weight: weight(entries), addresses }
    }
}

/// The labels of the endpoints that may differ between two states of a Service; None: all of them. After a change of one slice
/// only the names of its own endpoints are planned and compared.
pub(super) fn endpoints_between(old: &Entry, new: &Entry) -> Option<HashSet<Box<str>>> {
    if !has_same_names(old, new) {
        return None;
    }
    let (gone, come) = (old.slices_not_in(new), new.slices_not_in(old));
    Some(gone.chain(come).flat_map(Slice::labels).collect())
}

/// Whether two states of a Service differ in endpoints only.
pub(super) fn has_same_names(old: &Entry, new: &Entry) -> bool {
    old.service == new.service && old.is_opaque() == new.is_opaque()
}

/// The names of a Service whose namespace exists. If `labels` are given, only the endpoints with these labels are included.
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
            // CoreDNS strips both underscores and answers as for the Service's own name.
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

/// `_port._proto`. CoreDNS strips the underscore, so a port without a name has the label `_`.
fn port_name(name: &str, protocol: Protocol) -> Relative {
    format!("_{name}._{}", protocol.label()).into()
}

/// Maps the port name and protocol of a query to the lists of ports that match it, each with the matching ports. A list is
/// that of the Service or of one of its slices. An empty name or protocol matches all ports ([`Port::matches`]); [`OWN_NAME`]
/// is the query for the Service itself. The table is built in one pass, because a Service may have thousands of ports.
struct PortNames<'a>(HashMap<(&'a str, Protocol), Vec<(u32, Ports)>>);

/// The port name and protocol of a query for the Service's own name.
const OWN_NAME: (&str, Protocol) = ("", Protocol::None);

impl<'a> PortNames<'a> {
    /// Makes the table from numbered lists of ports.
    fn new(lists: impl Iterator<Item = (u32, &'a [Port])>) -> Self {
        let mut ports: HashMap<_, Vec<(u32, Ports)>> = HashMap::from([(OWN_NAME, Vec::new())]);
        let mut nameless = HashSet::from([Protocol::None]);
        for (i, port) in lists.flat_map(|(i, ports)| ports.iter().map(move |p| (i, p))) {
            let mut add = |name: &'a str, protocol| {
                let lists_with_port = ports.entry((name, protocol)).or_default();
                if lists_with_port.last().is_none_or(|(last, _)| *last != i) {
                    lists_with_port.push((i, Ports::default()));
                }
                if let Some((_, ports)) = lists_with_port.last_mut() {
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
        // `_._proto` is in the plan only if a port of this protocol has no name.
        ports.retain(|(name, protocol), _| !name.is_empty() || nameless.contains(protocol));
        Self(ports)
    }

    /// The names of the ports and of the Service, with the hosts that `host` makes of the lists that have the port.
    fn hosts(self, root: &Relative, mut host: impl FnMut(&[(u32, Ports)], bool) -> Host) -> Plan {
        let hosts = self.0.into_iter().map(|((name, protocol), lists_with_port)| {
            let is_root = (name, protocol) == OWN_NAME;
            let name = if is_root { Relative::clone(root) } else { port_name(name, protocol) };
            (name, Content::Host(host(&lists_with_port, is_root)))
        });
        hosts.collect()
    }
}

fn add_cluster_ip(plan: &mut Plan, root: &Relative, entry: &Entry, addresses: &[IpAddr], ports: &[Port]) {
    let own = address_set(addresses.iter().copied());
    let targets = Targets::new(own.iter().map(|a| (Relative::clone(root), *a)).collect());
    plan.append(&mut PortNames::new(std::iter::once((0, ports))).hosts(root, |lists_with_port, is_root| {
        let count = lists_with_port.iter().map(|(_, ports)| ports.count * addresses.len()).sum();
        let numbers = lists_with_port.first().map_or(&[][..], |(_, ports)| &ports.numbers);
        Host {
            addresses: Arc::clone(&own),
            aliased: false,
            srv: targets.srv(numbers, count),
            has_nxdomain: is_root && !entry.is_opaque(),
        }
    }));
}

fn add_headless(plan: &mut Plan, root: &Relative, slices: &Slices) {
    let lists = || slices.iter().filter(|(_, slice)| !slice.is_empty()).map(|(i, slice)| (i, &*slice.ports));
    if lists().next().is_none() {
        return;
    }
    plan.append(&mut PortNames::new(lists()).hosts(root, |slices_with_port, is_root| {
        let numbers: Vec<u32> = slices_with_port.iter().map(|(i, _)| *i).collect();
        Host {
            addresses: slices.addresses(&numbers),
            aliased: numbers.iter().any(|i| !slices.get(*i).aliases.is_empty()),
            srv: slices.srv(slices_with_port),
            has_nxdomain: is_root,
        }
    }));
}

fn add_endpoints(plan: &mut Plan, slices: &Slices, labels: Option<&HashSet<Box<str>>>) {
    // The label of each endpoint, its slice, and its address; None if it is a host name.
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
            srv: endpoint_srv(slices, label, endpoints()),
            has_nxdomain: false,
        };
        plan.insert(Relative::clone(label), Content::Host(host));
    }
}

/// The SRV records of an endpoint's name: `endpoints` are the slices that list it and its addresses. None if no message holds
/// them.
fn endpoint_srv(
    slices: &Slices,
    label: &Relative,
    endpoints: impl Iterator<Item = (u32, IpAddr)> + Clone,
) -> Option<SrvRecords> {
    let count = endpoints.clone().map(|(i, _)| slices.get(i).ports.len()).sum();
    let numbered = endpoints.filter(|(i, _)| !slices.ports(*i).numbers.is_empty());
    let addresses: Vec<Target> = numbered.clone().map(|(_, address)| (Relative::clone(label), address)).collect();
    let mut slices_with_port: Vec<u32> = numbered.map(|(i, _)| i).collect();
    slices_with_port.dedup();
    if let [only] = slices_with_port[..] {
        return Targets::new(addresses).into_srv(&slices.ports(only).numbers, count);
    }
    let mut numbers = Vec::new();
    for i in slices_with_port {
        numbers.extend(&slices.ports(i).numbers);
        numbers.sort_unstable();
        numbers.dedup();
        if !fits(numbers.len(), 0) {
            return None;
        }
    }
    Targets::new(addresses).into_srv(&numbers, count)
}
