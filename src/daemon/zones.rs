//! The zones: static names on top of names of the cluster. Changes of them become changes of the maps.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::error::DaemonError;
use crate::config::{Config, ServerSpec};
use crate::datapath::{Reason, Table};
use crate::source::kubernetes::{self, AnyDelta, Index, ListPart, NamespaceObject, ServiceObject, SliceObject};
use crate::zone::change::{Change, append};
use crate::zone::cluster::keep::HiddenObjects;
use crate::zone::cluster::share::{NamespaceUse, Size};
use crate::zone::cluster::spec::Key;
use crate::zone::cluster::{Cluster, ClusterConfig, Take, WaitingNamespace, keep};
use crate::zone::layers::Layers;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Default address of NodeLocal DNSCache.
pub(super) const NODE_LOCAL_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));

/// All names, static and of the cluster.
pub(super) struct Zones {
    layers: Layers,
    cluster: Cluster,
    /// The cluster zone. It stays the same until a restart.
    cluster_domain: Name,
    serial: u32,
    /// Services of the cluster's DNS servers, for `DnsServers: auto`.
    dns_services: HashSet<Key>,
    /// Whether a kind was listed completely, by [`kubernetes::Kind`].
    listed: [bool; kubernetes::Kind::ALL.len()],
    /// Capacity of the maps.
    capacity: Size,
    /// The part of it that static names use.
    static_size: Size,
}

/// Use of the maps by the cluster's names.
pub(super) struct Shares {
    /// Number of withheld names, and the reason.
    pub withheld: (usize, Reason),
    /// Namespaces with the most names.
    pub holders: Vec<NamespaceUse>,
    /// Namespaces that have exceeded their fair share since the last call.
    pub new: Vec<NamespaceUse>,
    /// Number of names that are not answered because objects are not kept, approximately.
    pub hidden: usize,
    /// Namespaces of which objects are not kept since the last call.
    pub newly_hidden: Vec<HiddenObjects>,
}

/// Units of memory ([`Size::UNIT`]) for each name of `MaxRecords`. `MaxRecords` thereby also limits the memory of the maps: some
/// names need several times as much, but nearly all need less.
const UNITS_PER_NAME: usize = 6;
/// Minimum of memory in units: 64 MiB.
const UNITS_MIN: usize = 1 << 20;
/// Number of namespaces in `edns stats`.
const HOLDERS_MAX: usize = 5;

impl Zones {
    /// No names.
    pub(super) fn new(config: &Config) -> Self {
        // The time, so that the serial of the SOA increases with each start.
        let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_secs() as u32);
        let mut cluster = Cluster::new(cluster_config(config, &config.cluster_domain, serial));
        cluster.set_item_limits(config.max_records as usize);
        Self {
            layers: Layers::new(config.cluster_domain.clone()),
            cluster,
            cluster_domain: config.cluster_domain.clone(),
            serial,
            dns_services: HashSet::new(),
            listed: Default::default(),
            capacity: capacity(config.max_records as usize),
            static_size: Size::default(),
        }
    }

    /// Limits the memory of the maps to `units`. Returns the changes that withhold names.
    pub(super) fn limit_memory(&mut self, units: usize) -> Vec<Change> {
        self.capacity.units = self.capacity.units.min(units);
        self.make_room(self.static_size)
    }

    /// Reserves this size for static names, and leaves the rest of the maps to the cluster. Returns the changes that withhold
    /// names.
    fn make_room(&mut self, static_size: Size) -> Vec<Change> {
        self.static_size = static_size;
        self.cluster.set_capacity(self.capacity.less(static_size));
        self.commit(Take::Least(0))
    }

    /// Use of the maps by the cluster's names.
    pub(super) fn shares(&mut self) -> Shares {
        let (withheld, by_names) = self.cluster.withheld_names();
        // `MaxRecords` limits names and memory. If the limit of memory is lower than that, the kernel has refused memory.
        let reason =
            if by_names || self.capacity == capacity(self.capacity.names) { Reason::Full } else { Reason::Memory };
        Shares {
            withheld: (withheld, reason),
            holders: self.cluster.largest_namespaces(HOLDERS_MAX),
            new: self.cluster.newly_withheld(),
            hidden: self.cluster.hidden(),
            newly_hidden: self.cluster.newly_hidden(),
        }
    }

    /// Runs `work` in another thread, because it may take seconds.
    ///
    /// # Errors
    /// If `work` panics.
    pub(super) async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> Result<(Self, T), DaemonError> {
        let run = move || {
            let mut zones = self;
            let result = work(&mut zones);
            (zones, result)
        };
        spawn_blocking(run).await.map_err(|e| DaemonError::System("working on the zone", e.into()))
    }

    /// Adds the cluster zone. Before the initial sync, none of its names are known.
    pub(super) fn announce(&mut self) -> Vec<Change> {
        self.layers.merge(self.cluster.announce())
    }

    /// Replaces all static names by `nodes`, and the configuration of the cluster zone. Returns the changes.
    pub(super) fn set_statics(&mut self, nodes: Vec<(Name, Node)>, config: &Config) -> Vec<Change> {
        let mut changes =
            self.layers.merge(self.cluster.reconfigure(cluster_config(config, &self.cluster_domain, self.serial)));
        let units = nodes.iter().map(|(name, node)| Table::units_of(name, node)).sum();
        let mut size = Size { names: nodes.len(), units };
        // The kernel may have more memory than when it last refused some.
        self.capacity = capacity(self.capacity.names);
        // Static names have priority: names of the cluster are withheld before static names are added.
        if !size.fits(self.static_size) {
            append(&mut changes, self.make_room(size));
        }
        append(&mut changes, self.layers.set_statics(nodes, &config.pass_names, &self.cluster));
        size.names = self.layers.len();
        append(&mut changes, self.make_room(size));
        changes
    }

    /// Applies a change of the cluster that arrived then. [`Self::commit`] turns it into changes of the maps.
    pub(super) fn apply_delta(&mut self, delta: AnyDelta, arrived: Instant) {
        self.cluster.set_arrival(arrived.into_std());
        if let Some(kind) = delta.apply_to(self) {
            self.listed[kind as usize] = true;
        }
    }

    /// Adds this Service to `dns_services`, or removes it.
    fn track_dns(&mut self, service: &ServiceObject) {
        if service.is_dns {
            self.dns_services.insert(service.key.clone());
        } else {
            self.dns_services.remove(&service.key);
        }
    }

    /// The kind to relist, if objects that were not kept fit now.
    pub(super) fn wants_relist(&self) -> Option<kubernetes::Kind> {
        self.cluster.kind_to_relist().map(|kind| match kind {
            keep::ObjectKind::Service => kubernetes::Kind::Services,
            keep::ObjectKind::Slice => kubernetes::Kind::EndpointSlices,
        })
    }

    /// Whether each kind was listed completely once.
    pub(super) fn is_complete(&self) -> bool {
        self.listed.iter().all(|is_listed| *is_listed)
    }

    /// Commits the waiting changes that `take` chooses; the first commit takes all. Returns the changes of the maps.
    ///
    /// The daemon alternates [`Take::Least`] and [`Take::Oldest`], so that a namespace with expensive changes neither delays others
    /// nor waits forever.
    pub(super) fn commit(&mut self, take: Take) -> Vec<Change> {
        if !self.is_complete() {
            return Vec::new();
        }
        self.layers.commit(&mut self.cluster, take)
    }

    /// Work of the last commit, in endpoints and ports.
    pub(super) const fn spent(&self) -> usize {
        self.cluster.spent()
    }

    /// Namespaces with changes that wait for a commit.
    pub(super) fn behind(&self) -> Vec<WaitingNamespace> {
        if self.is_complete() { self.cluster.waiting() } else { Vec::new() }
    }

    /// Counts all changes that wait for a commit as late.
    pub(super) fn set_late(&mut self) {
        self.cluster.set_late();
    }

    /// Current addresses of the servers of this setting. Cluster IPs are first, because most queries go to them.
    pub(super) fn servers(&self, spec: &ServerSpec) -> Vec<IpAddr> {
        match spec {
            ServerSpec::Any => Vec::new(),
            ServerSpec::Addr(addr) => vec![*addr],
            ServerSpec::Service { namespace, name } => {
                let key = Key::new(namespace, name);
                self.cluster.own_addresses(&key).iter().copied().chain(self.cluster.endpoints(&key)).collect()
            }
            ServerSpec::Auto if self.is_complete() => {
                let own = self.dns_services.iter().flat_map(|key| self.cluster.own_addresses(key));
                let endpoints = self.dns_services.iter().flat_map(|key| self.cluster.endpoints(key));
                own.copied().chain([NODE_LOCAL_DNS]).chain(endpoints).collect()
            }
            ServerSpec::Auto => Vec::new(),
        }
    }
}

impl Index<ServiceObject> for Zones {
    fn apply(&mut self, service: ServiceObject) {
        self.track_dns(&service);
        self.cluster.apply_service(service.key, &service.spec);
    }

    fn delete(&mut self, key: &Key) {
        self.dns_services.remove(key);
        self.cluster.delete_service(key);
    }

    fn reset(&mut self, services: Vec<ServiceObject>, part: ListPart) {
        if part.is_first {
            self.cluster.begin_services();
        }
        services.iter().for_each(|service| self.track_dns(service));
        self.cluster.list_services(services.into_iter().map(|s| (s.key, s.spec)));
        if part.is_last {
            self.cluster.end_services();
            let Self { dns_services, cluster, .. } = self;
            dns_services.retain(|key| cluster.has_service(key));
        }
    }
}

impl Index<SliceObject> for Zones {
    fn apply(&mut self, slice: SliceObject) {
        self.cluster.apply_slice(slice.key, &slice.spec);
    }

    fn delete(&mut self, key: &Key) {
        self.cluster.delete_slice(key);
    }

    fn reset(&mut self, slices: Vec<SliceObject>, part: ListPart) {
        if part.is_first {
            self.cluster.begin_slices();
        }
        self.cluster.list_slices(slices.into_iter().map(|s| (s.key, s.spec)));
        if part.is_last {
            self.cluster.end_slices();
        }
    }
}

impl Index<NamespaceObject> for Zones {
    fn apply(&mut self, namespace: NamespaceObject) {
        self.cluster.apply_namespace(&namespace.0);
    }

    fn delete(&mut self, name: &Box<str>) {
        self.cluster.delete_namespace(name);
    }

    fn reset(&mut self, namespaces: Vec<NamespaceObject>, part: ListPart) {
        if part.is_first {
            self.cluster.begin_namespaces();
        }
        self.cluster.list_namespaces(namespaces.into_iter().map(|n| n.0));
        if part.is_last {
            self.cluster.end_namespaces();
        }
    }
}

/// Capacity of maps for this many names.
fn capacity(names: usize) -> Size {
    Size { names, units: names.saturating_mul(UNITS_PER_NAME).clamp(UNITS_MIN, Table::UNITS_MAX) }
}

/// Configuration of the cluster zone.
fn cluster_config(config: &Config, cluster_domain: &Name, serial: u32) -> ClusterConfig {
    ClusterConfig {
        zone: cluster_domain.clone(),
        ttl: config.ttl,
        negative_answers: config.negative_answers,
        serial,
        pass: config.pass_names.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_new_cluster_domain_changes_nothing_until_a_restart() {
        let config = |text: &str| Config::parse(Path::new("config.yaml"), text).unwrap();
        let mut zones = Zones::new(&config("EnableK8S: true\n"));
        assert!(!zones.announce().is_empty());
        let changes = zones.set_statics(Vec::new(), &config("EnableK8S: true\nClusterDomain: other.test\n"));
        let is_other = |change: &Change| format!("{change:?}").contains("other");
        assert!(!changes.iter().any(is_other), "{changes:?}");
        let changes = zones.set_statics(Vec::new(), &config("EnableK8S: true\nTTL: 5\n"));
        assert!(!changes.is_empty(), "TTL changes live");
    }
}
