//! The most room that names take in the maps, computed from a plan before any node is rendered. A node is a header, its types,
//! its name and its answers, each padded to eight octets (`struct edns_node` in `src/bpf/abi.h`).

use std::net::IpAddr;
use std::sync::Arc;

use super::ClusterConfig;
use super::model::{Entry, Service};
use super::plan::{Content, Host, Plan, SrvRecords};
use super::reverse::{self, Endpoints};
use super::share::{NameGroup, Size, Sizes};
use super::spec::Key;
use crate::zone::name::Name;
use crate::zone::render::RRS_MAX;

/// Octets of a record without its data, if the owner is a pointer (RFC 1035 §4.1.3).
const RECORD_HEAD: usize = 12;
/// Octets of an SRV record's data without the target (RFC 2782).
const SRV_HEAD: usize = 6;
/// The length octet of a label.
const LABEL: usize = 1;

/// The size of a name of `name` octets whose node lists `types` types. `answers` are the octets of each answer's records.
fn node(name: usize, types: usize, answers: impl IntoIterator<Item = usize>) -> Size {
    let answers = answers.into_iter().filter(|octets| *octets > 0);
    let kept = |octets: usize| Size::ANSWER_HEAD + octets.min(Size::ANSWER_MAX).next_multiple_of(8);
    let answers: usize = answers.map(kept).sum();
    let octets = Size::NODE_HEAD + (types * Size::TYPE).next_multiple_of(8) + name.next_multiple_of(8) + answers;
    Size { names: 1, units: octets.div_ceil(Size::UNIT) }
}

/// Octets of a Service's name in wire format.
fn base(key: &Key, config: &ClusterConfig) -> usize {
    LABEL + key.name.len() + namespace_name(&key.namespace, config)
}

fn namespace_name(namespace: &str, config: &ClusterConfig) -> usize {
    LABEL + namespace.len() + LABEL + "svc".len() + config.zone.wire().len()
}

/// The size of a namespace's two names, below `svc` and `pod`.
pub(super) fn namespace(name: &str, config: &ClusterConfig) -> Size {
    let below = |branch: &str| config.zone.child(branch).is_ok_and(|name| config.pass.covers_below(&name));
    let branches = ["svc", "pod"].into_iter().filter(|branch| config.pass.is_empty() || !below(branch));
    branches.fold(Size::default(), |mut size, _| {
        size += node(namespace_name(name, config), 0, []);
        size
    })
}

/// The Services that are charged for the reverse name of an address, and the size that each is charged. This is `service`, if
/// a Service has the address; otherwise it is one Service for each namespace of `endpoints`. A namespace is charged for its
/// own endpoints only, so that other namespaces can't raise its charge by listing the address. If no message holds the
/// endpoints, only the first one's Service is charged.
pub(super) fn pointers(
    address: IpAddr,
    service: Option<&Arc<Key>>,
    endpoints: Endpoints<'_>,
    config: &ClusterConfig,
) -> Vec<(Arc<Key>, Size)> {
    let has_node = config.pass.is_empty() || !reverse::name_of(address).is_some_and(|name| is_below(&name, config));
    // Octets of the longest reverse name (four numbers or 32 nibbles), and of the longest label of an address.
    let (name, label) = if address.is_ipv4() { (30, 15) } else { (74, 40) };
    let size = |octets: usize| if has_node { node(name, 1, [octets]) } else { Size::default() };
    let target = |key: &Key, label: Option<usize>| RECORD_HEAD + base(key, config) + label.map_or(0, |l| LABEL + l);
    if let Some(key) = service {
        return vec![(Arc::clone(key), size(target(key, None)))];
    }
    if endpoints.len() > RRS_MAX {
        return endpoints.iter().take(1).map(|(key, _)| (Arc::clone(key), size(0))).collect();
    }
    // In the order of namespaces.
    let mut octets: Vec<(&Arc<Key>, usize)> = Vec::new();
    for (key, host) in endpoints.iter() {
        let own = target(key, Some(host.as_ref().map_or(label, |h| h.len())));
        match octets.last_mut() {
            Some((first, sum)) if first.namespace == key.namespace => *sum += own,
            _ => octets.push((key, own)),
        }
    }
    octets.into_iter().map(|(key, octets)| (Arc::clone(key), size(octets))).collect()
}

/// Whether the name is below a suffix of `PassNames`, and so has no node.
fn is_below(name: &Name, config: &ClusterConfig) -> bool {
    name.parent().is_some_and(|parent| config.pass.covers_below(&parent))
}

/// The sizes of a Service's names by group, without its reverse names.
pub(super) fn service(key: &Key, entry: &Entry, plan: &Plan, config: &ClusterConfig) -> Sizes {
    let mut sizes = Sizes::default();
    if plan.is_empty() {
        return sizes;
    }
    let base = base(key, config);
    let suppressed = Suppressed::new(key, config);
    for (relative, content) in plan {
        let group = NameGroup::of(relative, content);
        if suppressed.covers(!relative.is_empty()) {
            continue;
        }
        let name = if relative.is_empty() { base } else { LABEL + relative.len() + base };
        sizes[group as usize] += match content {
            Content::Pass => node(name, 0, []),
            Content::Alias => alias(name, entry, config),
            Content::Host(host) => self::host(name, base, host),
        };
    }
    sizes
}

/// Whether `PassNames` leave a Service without nodes: at all of its names, and at those below its own name.
struct Suppressed([bool; 2]);

impl Suppressed {
    fn new(key: &Key, config: &ClusterConfig) -> Self {
        let covers = |labels: &[&str]| {
            let name = labels.iter().try_fold(config.zone.clone(), |name, label| name.child(label));
            name.is_ok_and(|name| config.pass.covers_below(&name))
        };
        if config.pass.is_empty() {
            return Self([false; 2]);
        }
        Self([covers(&["svc", &key.namespace]), covers(&["svc", &key.namespace, &key.name])])
    }

    const fn covers(&self, is_below: bool) -> bool {
        let Self([all, below]) = *self;
        all || below && is_below
    }
}

fn alias(name: usize, entry: &Entry, config: &ClusterConfig) -> Size {
    let Some(Service::External(target)) = entry.service.as_deref() else { return node(name, 0, []) };
    // Addresses of a target in the zone are those of other objects: as many as an answer holds.
    let addresses = if entry.depends_on(&config.zone).is_some() { Size::ANSWER_MAX } else { 0 };
    node(name, 3, [RECORD_HEAD + target.wire().len(), addresses, addresses])
}

fn host(name: usize, base: usize, host: &Host) -> Size {
    let v4 = host.addresses.iter().filter(|a| a.is_ipv4()).count();
    let addresses = |count: usize, octets: usize| if host.aliased { 0 } else { count * (RECORD_HEAD + octets) };
    let srv = host.srv.as_ref().map_or(0, |s| srv(base, s));
    let v6 = host.addresses.len() - v4;
    node(name, if host.aliased { 4 } else { 3 }, [addresses(v4, 4), addresses(v6, 16), srv])
}

fn srv(base: usize, srv: &SrvRecords) -> usize {
    let name = |relative: &str| LABEL + relative.len() + base;
    let records = srv.records.iter().map(|(target, _)| RECORD_HEAD + SRV_HEAD + name(target));
    let address = |a: &IpAddr| if a.is_ipv4() { 4 } else { 16 };
    let additional = srv.addresses.iter().map(|(owner, a)| RECORD_HEAD + name(owner) + address(a));
    records.chain(additional).sum()
}
