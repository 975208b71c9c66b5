//! What names take of the maps at most: reckoned from what they hold, before anything is rendered. A node is a head, its
//! types, its name and its answers, each of these filled up to eight octets.

use std::net::IpAddr;
use std::sync::Arc;

use super::Settings;
use super::model::{Entry, Service};
use super::plan::{Holds, Host, Plan, Services};
use super::reverse::{self, Endpoints};
use super::share::{Part, Size, Sizes};
use super::spec::Key;
use crate::zone::name::Name;
use crate::zone::render::RECORDS_MAX;

/// Of a record whose owner is a pointer, without its data; of an SRV record's data without its target.
const RECORD_HEAD: usize = 12;
const SRV_HEAD: usize = 6;
/// A name's first label that says its length, and its end.
const LABEL: usize = 1;

/// A name with a node like this.
fn node(name: usize, types: usize, answers: impl IntoIterator<Item = usize>) -> Size {
    let answers = answers.into_iter().filter(|octets| *octets > 0);
    let kept = |octets: usize| Size::ANSWER_HEAD + octets.min(Size::ANSWER_MAX).next_multiple_of(8);
    let answers: usize = answers.map(kept).sum();
    let octets = Size::NODE_HEAD + (types * Size::TYPE).next_multiple_of(8) + name.next_multiple_of(8) + answers;
    Size { names: 1, units: octets.div_ceil(Size::UNIT) }
}

/// Octets of a Service's name.
fn base(key: &Key, settings: &Settings) -> usize {
    LABEL + key.name.len() + namespace_name(&key.namespace, settings)
}

fn namespace_name(namespace: &str, settings: &Settings) -> usize {
    LABEL + namespace.len() + LABEL + "svc".len() + settings.zone.wire().len()
}

/// The two names of a namespace.
pub(super) fn namespace(name: &str, settings: &Settings) -> Size {
    let below = |branch: &str| settings.zone.child(branch).is_ok_and(|name| settings.pass.covers_below(&name));
    let branches = ["svc", "pod"].into_iter().filter(|branch| settings.pass.is_empty() || !below(branch));
    branches.fold(Size::default(), |mut size, _| {
        size += node(namespace_name(name, settings), 0, []);
        size
    })
}

/// What the namespaces pay for the name of an address that a Service has, or that these endpoints have: of these each namespace
/// pays its own, since others may have as many more as they like. The first Service of each namespace is charged, and of a name that
/// no message holds the first one alone.
pub(super) fn pointers(
    address: IpAddr,
    service: Option<&Arc<Key>>,
    endpoints: Endpoints<'_>,
    settings: &Settings,
) -> Vec<(Arc<Key>, Size)> {
    let has_node = settings.pass.is_empty() || !reverse::name_of(address).is_some_and(|name| is_below(&name, settings));
    // Four octets, or 32 nibbles, and two labels.
    let (name, label) = if address.is_ipv4() { (30, 15) } else { (74, 40) };
    let size = |octets: usize| if has_node { node(name, 1, [octets]) } else { Size::default() };
    let target = |key: &Key, label: Option<usize>| RECORD_HEAD + base(key, settings) + label.map_or(0, |l| LABEL + l);
    if let Some(key) = service {
        return vec![(Arc::clone(key), size(target(key, None)))];
    }
    if endpoints.len() > RECORDS_MAX {
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

/// Whether a name lies below a suffix of PassNames, and so has no node.
fn is_below(name: &Name, settings: &Settings) -> bool {
    name.parent().is_some_and(|parent| settings.pass.covers_below(&parent))
}

/// The names of a Service, but for those of addresses.
pub(super) fn service(key: &Key, entry: &Entry, plan: &Plan, settings: &Settings) -> Sizes {
    let mut sizes = Sizes::default();
    if plan.is_empty() {
        return sizes;
    }
    let base = base(key, settings);
    let passes = Passes::new(key, settings);
    for (relative, holds) in plan {
        let part = Part::of(relative, holds);
        if passes.covers(!relative.is_empty()) {
            continue;
        }
        let name = if relative.is_empty() { base } else { LABEL + relative.len() + base };
        sizes[part as usize] += match holds {
            Holds::Pass => node(name, 0, []),
            Holds::Alias => alias(name, entry, settings),
            Holds::Host(host) => self::host(name, base, host),
        };
    }
    sizes
}

/// Whether all names of a Service, and those below its own, lie below a suffix of PassNames, and so have no nodes.
struct Passes([bool; 2]);

impl Passes {
    fn new(key: &Key, settings: &Settings) -> Self {
        let covers = |labels: &[&str]| {
            let name = labels.iter().try_fold(settings.zone.clone(), |name, label| name.child(label));
            name.is_ok_and(|name| settings.pass.covers_below(&name))
        };
        if settings.pass.is_empty() {
            return Self([false; 2]);
        }
        Self([covers(&["svc", &key.namespace]), covers(&["svc", &key.namespace, &key.name])])
    }

    const fn covers(&self, is_below: bool) -> bool {
        let Self([all, below]) = *self;
        all || below && is_below
    }
}

fn alias(name: usize, entry: &Entry, settings: &Settings) -> Size {
    let Some(Service::External(target)) = entry.service.as_deref() else { return node(name, 0, []) };
    // Where it leads to is others' to say, as much as an answer holds.
    let addresses = if entry.depends_on(&settings.zone).is_some() { Size::ANSWER_MAX } else { 0 };
    node(name, 3, [RECORD_HEAD + target.wire().len(), addresses, addresses])
}

fn host(name: usize, base: usize, host: &Host) -> Size {
    let v4 = host.addresses.iter().filter(|a| a.is_ipv4()).count();
    let addresses = |count: usize, octets: usize| if host.aliased { 0 } else { count * (RECORD_HEAD + octets) };
    let services = host.services.as_ref().map_or(0, |s| services(base, s));
    let v6 = host.addresses.len() - v4;
    node(name, if host.aliased { 4 } else { 3 }, [addresses(v4, 4), addresses(v6, 16), services])
}

fn services(base: usize, services: &Services) -> usize {
    let name = |relative: &str| LABEL + relative.len() + base;
    let records = services.records.iter().map(|(target, _)| RECORD_HEAD + SRV_HEAD + name(target));
    let address = |a: &IpAddr| if a.is_ipv4() { 4 } else { 16 };
    let additional = services.addresses.iter().map(|(owner, a)| RECORD_HEAD + name(owner) + address(a));
    records.chain(additional).sum()
}
