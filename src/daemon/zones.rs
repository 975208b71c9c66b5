//! All that exists: static names over the cluster's. What changes in it becomes changes for the maps.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::error::DaemonError;
use crate::config::{Config, ServerSpec};
use crate::datapath::{Reason, Table};
use crate::source::kubernetes::{self, AnyDelta, Index, NamespaceObject, Part, ServiceObject, SliceObject};
use crate::zone::change::{Change, append};
use crate::zone::cluster::keep::HiddenObjects;
use crate::zone::cluster::share::{Holder, Size};
use crate::zone::cluster::spec::Key;
use crate::zone::cluster::{Behind, Cluster, ClusterConfig, Take, keep};
use crate::zone::layers::Layers;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Where NodeLocal DNSCache listens, unless told otherwise.
pub(super) const NODE_LOCAL_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));

/// What exists.
pub(super) struct Zones {
    layers: Layers,
    cluster: Cluster,
    serial: u32,
    /// Services that `DnsServers: auto` stands for.
    dns_services: HashSet<Key>,
    /// Whether a kind was listed completely, by [`kubernetes::Kind`].
    listed: [bool; kubernetes::Kind::ALL.len()],
    /// What the maps hold at most.
    room: Size,
    /// What static names take of it.
    statics: Size,
}

/// Which namespaces' changes a commit takes first. The daemon alternates both, so that a namespace whose changes are expensive
/// neither delays the others nor waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Namespaces with the least work.
    Least,
    /// The namespace that has waited longest.
    Oldest,
}

/// What the cluster's names take of the maps.
pub(super) struct Shares {
    /// Names that pass since there is no room for all, and why.
    pub passing: (usize, Reason),
    /// Who holds most.
    pub holders: Vec<Holder>,
    /// Namespaces that have more than their share since just now.
    pub new: Vec<Holder>,
    /// Names that pass since what they are made of is not kept: about as many.
    pub hidden: usize,
    /// Namespaces that have more than is kept since just now.
    pub newly_hidden: Vec<HiddenObjects>,
}

/// Units of memory for each name that the maps can hold: nearly all take less than that, and some several times as much. So
/// MaxRecords bounds what the maps take, and what the daemon needs to fill them.
const UNITS_PER_NAME: usize = 6;
/// At least so many, 64 MiB.
const UNITS_MIN: usize = 1 << 20;
/// Namespaces of which `edns stats` tells what they hold.
const HOLDERS: usize = 5;

impl Zones {
    /// Nothing exists.
    pub(super) fn new(config: &Config) -> Self {
        // Later than that of any daemon before, as a SOA's serial should be.
        let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |t| t.as_secs() as u32);
        let mut cluster = Cluster::new(settings(config, serial));
        cluster.bound(config.max_records as usize);
        Self {
            layers: Layers::new(config.cluster_domain.clone()),
            cluster,
            serial,
            dns_services: HashSet::new(),
            listed: Default::default(),
            room: room(config.max_records as usize),
            statics: Size::default(),
        }
    }

    /// The maps have no more memory than this.
    pub(super) fn limit(&mut self, units: usize) -> Vec<Change> {
        self.room.units = self.room.units.min(units);
        self.make_room(self.statics)
    }

    /// Static names take so much of the maps from now on.
    fn make_room(&mut self, statics: Size) -> Vec<Change> {
        self.statics = statics;
        self.cluster.set_capacity(self.room.less(statics));
        self.commit(Turn::Least, 0)
    }

    /// How it stands with the room in the maps.
    pub(super) fn shares(&mut self) -> Shares {
        let (passing, by_names) = self.cluster.passing();
        // What MaxRecords allows, be it names or memory.
        let reason = if by_names || self.room == room(self.room.names) { Reason::Full } else { Reason::Memory };
        Shares {
            passing: (passing, reason),
            holders: self.cluster.holders(HOLDERS),
            new: self.cluster.newly_withheld(),
            hidden: self.cluster.hidden(),
            newly_hidden: self.cluster.newly_hidden(),
        }
    }

    /// Works on it elsewhere: much may take seconds.
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

    /// The cluster's zone is there, and will be read.
    pub(super) fn announce(&mut self) -> Vec<Change> {
        self.layers.merge(self.cluster.announce())
    }

    /// Makes `nodes` all static names, under a config that may be new.
    pub(super) fn set_statics(&mut self, nodes: Vec<(Name, Node)>, config: &Config) -> Vec<Change> {
        let mut changes = self.layers.merge(self.cluster.reconfigure(settings(config, self.serial)));
        let units = nodes.iter().map(|(name, node)| Table::units_of(name, node)).sum();
        let mut size = Size { names: nodes.len(), units };
        // If memory was short before, it may be so no more.
        self.room = room(self.room.names);
        // Static names come first: who has to make room for them does so before.
        if !size.fits(self.statics) {
            append(&mut changes, self.make_room(size));
        }
        append(&mut changes, self.layers.set_statics(nodes, &config.pass_names, &self.cluster));
        size.names = self.layers.len();
        append(&mut changes, self.make_room(size));
        changes
    }

    /// Applies a change of the cluster, which arrived at that time; [`Self::commit`] turns all of them into changes for the maps.
    pub(super) fn apply_delta(&mut self, delta: AnyDelta, arrived: Instant) {
        self.cluster.set_arrival(arrived.into_std());
        if let Some(kind) = delta.apply_to(self) {
            self.listed[kind as usize] = true;
        }
    }

    fn note_dns(&mut self, service: &ServiceObject) {
        if service.is_dns {
            self.dns_services.insert(service.key.clone());
        } else {
            self.dns_services.remove(&service.key);
        }
    }

    /// The kind of objects that has to be listed once more, since some that were not kept could be by now.
    pub(super) fn wants_again(&self) -> Option<kubernetes::Kind> {
        self.cluster.wants_again().map(|kind| match kind {
            keep::ObjectKind::Service => kubernetes::Kind::Services,
            keep::ObjectKind::Slice => kubernetes::Kind::EndpointSlices,
        })
    }

    /// Whether all of the cluster was listed once.
    pub(super) fn is_complete(&self) -> bool {
        self.listed.iter().all(|is_listed| *is_listed)
    }

    /// Commits some of the waiting changes, up to `work` endpoints and ports; at first, all. Returns the changes of the maps.
    pub(super) fn commit(&mut self, turn: Turn, work: usize) -> Vec<Change> {
        if !self.is_complete() {
            return Vec::new();
        }
        let take = match turn {
            Turn::Least => Take::Least(work),
            Turn::Oldest => Take::Oldest(work),
        };
        self.layers.commit(&mut self.cluster, take)
    }

    /// Work of the last commit, in endpoints and ports.
    pub(super) const fn spent(&self) -> usize {
        self.cluster.spent()
    }

    /// Namespaces with changes that wait for a commit.
    pub(super) fn behind(&self) -> Vec<Behind> {
        if self.is_complete() { self.cluster.behind() } else { Vec::new() }
    }

    /// Counts all changes that wait as late, whenever they arrived.
    pub(super) fn set_late(&mut self) {
        self.cluster.set_late();
    }

    /// The addresses that a setting stands for at present, first those that most are asked at.
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
        self.note_dns(&service);
        self.cluster.apply_service(service.key, &service.spec);
    }

    fn delete(&mut self, key: &Key) {
        self.dns_services.remove(key);
        self.cluster.delete_service(key);
    }

    fn reset(&mut self, services: Vec<ServiceObject>, part: Part) {
        if part.is_first {
            self.cluster.begin_services();
        }
        services.iter().for_each(|service| self.note_dns(service));
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

    fn reset(&mut self, slices: Vec<SliceObject>, part: Part) {
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

    fn reset(&mut self, namespaces: Vec<NamespaceObject>, part: Part) {
        if part.is_first {
            self.cluster.begin_namespaces();
        }
        self.cluster.list_namespaces(namespaces.into_iter().map(|n| n.0));
        if part.is_last {
            self.cluster.end_namespaces();
        }
    }
}

/// What maps of so many names hold at most.
fn room(names: usize) -> Size {
    Size { names, units: names.saturating_mul(UNITS_PER_NAME).clamp(UNITS_MIN, Table::UNITS_MAX) }
}

fn settings(config: &Config, serial: u32) -> ClusterConfig {
    ClusterConfig {
        zone: config.cluster_domain.clone(),
        ttl: config.ttl,
        negative_answers: config.negative_answers,
        serial,
        pass: config.pass_names.clone(),
    }
}
