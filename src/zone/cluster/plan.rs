//! The names of one Service and what they hold, before anything is rendered. Two plans of it tell what changed.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Entry, Port, Protocol, Service, Slice};
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

/// More than a message holds: what is longer than that need not be known.
const MANY: usize = RECORDS_MAX + 1;

/// A target and an address of it.
type Target = (Relative, IpAddr);

impl Services {
    /// CoreDNS' order of things: every entry counts, those without a port number too, but what is listed is each target and
    /// port once, whatever the protocol, and each of its addresses once.
    ///
    /// Entries come as targets that have all of some ports, both as long as [`MANY`] at most, and each once.
    fn collect<'a, T: AsRef<[Target]>>(count: usize, entries: impl Iterator<Item = (T, &'a [u16])>) -> Option<Self> {
        let (mut records, mut addresses) = (Vec::new(), Vec::new());
        let fits = |records: &mut Vec<_>, addresses: &mut Vec<_>| {
            records.sort_unstable();
            records.dedup();
            addresses.sort_unstable();
            addresses.dedup();
            records.len() + addresses.len() <= RECORDS_MAX
        };
        for (targets, ports) in entries {
            let targets = targets.as_ref();
            if targets.is_empty() || ports.is_empty() {
                continue;
            }
            if targets.len() > RECORDS_MAX || ports.len() > RECORDS_MAX {
                return None;
            }
            for (target, address) in targets {
                records.extend(ports.iter().map(|port| (Relative::clone(target), *port)));
                addresses.push((Relative::clone(target), *address));
                // There may be very many.
                if records.len() > 2 * RECORDS_MAX && !fits(&mut records, &mut addresses) {
                    return None;
                }
            }
        }
        let fits = fits(&mut records, &mut addresses);
        // There may be very many of these, and most have but one of each.
        records.shrink_to_fit();
        addresses.shrink_to_fit();
        fits.then(|| Self { records, weight: weight(count), addresses })
    }
}

/// Some ports: how many there are, and their numbers.
#[derive(Default)]
struct Ports {
    count: usize,
    /// Sorted, each once, at most [`MANY`].
    numbers: Vec<u16>,
}

impl Ports {
    fn add(&mut self, port: &Port) {
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

/// A slice, and what many names need of it, which is reckoned once.
struct Prepared<'a> {
    slice: &'a Slice,
    targets: OnceCell<Vec<Target>>,
    addresses: OnceCell<Arc<[IpAddr]>>,
    ports: OnceCell<Ports>,
}

impl<'a> Prepared<'a> {
    const fn new(slice: &'a Slice) -> Self {
        Self { slice, targets: OnceCell::new(), addresses: OnceCell::new(), ports: OnceCell::new() }
    }

    /// Its endpoints, each once, at most [`MANY`].
    fn targets(&self) -> &[Target] {
        self.targets.get_or_init(|| {
            let mut seen = HashSet::new();
            for endpoint in &self.slice.endpoints {
                seen.insert((endpoint.label().into(), endpoint.address));
                if seen.len() == MANY {
                    break;
                }
            }
            seen.into_iter().collect()
        })
    }

    fn addresses(&self) -> &Arc<[IpAddr]> {
        self.addresses.get_or_init(|| few(self.slice.endpoints.iter().map(|e| e.address)))
    }

    fn ports(&self) -> &Ports {
        self.ports.get_or_init(|| Ports::of(&self.slice.ports))
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
    let slices: Vec<Prepared<'_>> = entry.slices.iter().map(|s| Prepared::new(s)).collect();
    match entry.service.as_deref() {
        None | Some(Service::Nothing) => return plan,
        Some(Service::Opaque | Service::Hidden { .. }) => {
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
        Some(Service::Headless) => add_headless(&mut plan, &root, &slices),
    }
    if !entry.is_opaque() {
        add_endpoints(&mut plan, &slices, labels);
    }
    plan
}

/// Addresses, sorted, each once. Of a family with more than a message holds these are not all, but more than it holds, too:
/// whatever its other addresses are, the answer is the same.
pub(super) fn few(addresses: impl Iterator<Item = IpAddr>) -> Arc<[IpAddr]> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    let v4 = addresses.partition_point(IpAddr::is_ipv4);
    addresses.truncate(v4 + MANY);
    if v4 > MANY {
        addresses.drain(MANY..v4);
    }
    addresses.into()
}

/// `_port._proto`; CoreDNS' rule for stripping underscores leaves an empty name for a port without one.
fn port_name(name: &str, protocol: Protocol) -> Relative {
    format!("_{name}._{}", protocol.label()).into()
}

/// What can be asked for in front of a Service's name, and for the name itself as that of no protocol: ports by name and
/// protocol, by who has them. An empty name or protocol asks for all, as [`Port::matches`] has it. There may be thousands,
/// which are not all looked at for each.
struct Asked<'a>(HashMap<(&'a str, Protocol), Vec<(usize, Ports)>>);

/// Of the Service's own name.
const ALL: (&str, Protocol) = ("", Protocol::None);

impl<'a> Asked<'a> {
    /// From lists of ports.
    fn new(lists: impl Iterator<Item = &'a [Port]>) -> Self {
        let mut asked: HashMap<_, Vec<(usize, Ports)>> = HashMap::from([(ALL, Vec::new())]);
        let mut nameless = HashSet::from([Protocol::None]);
        for (i, port) in lists.enumerate().flat_map(|(i, ports)| ports.iter().map(move |p| (i, p))) {
            let mut add = |name: &'a str, protocol| {
                let holders = asked.entry((name, protocol)).or_default();
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
        asked.retain(|(name, protocol), _| !name.is_empty() || nameless.contains(protocol));
        Self(asked)
    }

    fn hosts(self, root: &Relative, mut host: impl FnMut(&[(usize, Ports)], bool) -> Host) -> Plan {
        let hosts = self.0.into_iter().map(|((name, protocol), holders)| {
            let is_root = (name, protocol) == ALL;
            let name = if is_root { Relative::clone(root) } else { port_name(name, protocol) };
            (name, Holds::Host(host(&holders, is_root)))
        });
        hosts.collect()
    }
}

fn add_cluster_ip(plan: &mut Plan, root: &Relative, entry: &Entry, addresses: &[IpAddr], ports: &[Port]) {
    let own = few(addresses.iter().copied());
    let targets: Vec<Target> = own.iter().map(|a| (Relative::clone(root), *a)).collect();
    plan.append(&mut Asked::new(std::iter::once(ports)).hosts(root, |holders, is_root| {
        let count = holders.iter().map(|(_, ports)| ports.count * addresses.len()).sum();
        Host {
            addresses: Arc::clone(&own),
            aliased: false,
            services: Services::collect(count, holders.iter().map(|(_, ports)| (&targets, &*ports.numbers))),
            closed: is_root && !entry.is_opaque(),
        }
    }));
}

fn add_headless(plan: &mut Plan, root: &Relative, slices: &[Prepared<'_>]) {
    let slices: &[&Prepared<'_>] = &slices.iter().filter(|s| !s.slice.is_empty()).collect::<Vec<_>>();
    if slices.is_empty() {
        return;
    }
    plan.append(&mut Asked::new(slices.iter().map(|s| &*s.slice.ports)).hosts(root, |holders, is_root| {
        let holders = || holders.iter().map(move |(i, ports)| (slices[*i], ports));
        let count = holders().map(|(s, ports)| s.slice.endpoints.len() * ports.count).sum();
        // Targets are not made where there is no number for them.
        let numbered = holders().filter(|(_, ports)| !ports.numbers.is_empty());
        let mut all = holders();
        let addresses = match (all.next(), all.next()) {
            (Some((only, _)), None) => Arc::clone(only.addresses()),
            _ => few(holders().flat_map(|(s, _)| s.addresses().iter().copied())),
        };
        Host {
            addresses,
            aliased: holders().any(|(s, _)| !s.slice.aliases.is_empty()),
            services: Services::collect(count, numbered.map(|(s, ports)| (s.targets(), &*ports.numbers))),
            closed: is_root,
        }
    }));
}

fn add_endpoints(plan: &mut Plan, slices: &[Prepared<'_>], labels: Option<&HashSet<Box<str>>>) {
    // By label: its slice, and its address where it is not the name of another host.
    let mut all: Vec<(Relative, usize, Option<IpAddr>)> = Vec::new();
    let mut add = |label: Box<str>, slice, address| {
        if labels.is_none_or(|labels| labels.contains(&label)) {
            all.push((label.into(), slice, address));
        }
    };
    for (i, slice) in slices.iter().map(|s| s.slice).enumerate() {
        slice.endpoints.iter().for_each(|e| add(e.label(), i, Some(e.address)));
        slice.aliases.iter().for_each(|label| add(label.clone(), i, None));
    }
    all.sort_unstable();
    for alike in all.chunk_by(|a, b| a.0 == b.0) {
        let label = &alike[0].0;
        let endpoints = || alike.iter().filter_map(|(_, i, address)| Some((*i, (*address)?)));
        let count = endpoints().map(|(i, _)| slices[i].slice.ports.len()).sum();
        let mut each: Vec<(usize, IpAddr)> = endpoints().collect();
        each.dedup();
        let entries = each.iter().map(|(i, a)| ([(Relative::clone(label), *a)], &*slices[*i].ports().numbers));
        let host = Host {
            addresses: few(each.iter().map(|(_, a)| *a)),
            aliased: alike.iter().any(|(.., address)| address.is_none()),
            services: Services::collect(count, entries),
            closed: false,
        };
        plan.insert(Relative::clone(label), Holds::Host(host));
    }
}
