//! All that exists: static names over the cluster's. What changes in it becomes changes for the maps.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::DaemonError;
use crate::config::{Config, ServerSpec};
use crate::datapath::{Reason, Table};
use crate::source::kubernetes::{self, Delta, ServiceObject};
use crate::zone::change::{Change, append};
use crate::zone::cluster::keep::Hoard;
use crate::zone::cluster::share::{Holder, Size};
use crate::zone::cluster::spec::Key;
use crate::zone::cluster::{Behind, Cluster, Settings, Take, keep};
use crate::zone::layers::Layers;
use crate::zone::name::Name;
use crate::zone::node::Node;

/// Where NodeLocal DNSCache listens, unless told otherwise.
pub(super) const NODE_LOCAL_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));

/// What exists.
pub(super) struct World {
    layers: Layers,
    cluster: Cluster,
    serial: u32,
    /// Services that `DnsServers: auto` stands for.
    dns_services: HashSet<Key>,
    /// Whether all objects of a kind are known: Services, EndpointSlices, Namespaces.
    listed: [bool; 3],
    /// What the maps hold at most.
    room: Size,
    /// What static names take of it.
    statics: Size,
}

/// Which changes come first, where there are many. Both kinds of turns alternate, so that those of one namespace, which may take
/// long, neither delay all others nor wait for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Those of the namespaces with least.
    Least,
    /// Those that have waited longest.
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
    pub newly_hidden: Vec<Hoard>,
}

/// Units of memory for each name that the maps can hold: nearly all take less than that, and some several times as much. So
/// MaxRecords bounds what the maps take, and what the daemon needs to fill them.
const UNITS_PER_NAME: usize = 6;
/// At least so many, 64 MiB.
const UNITS_MIN: usize = 1 << 20;
/// Namespaces of which `edns stats` tells what they hold.
const HOLDERS: usize = 5;

impl World {
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
            listed: [false; 3],
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
            new: self.cluster.newly_yielding(),
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
            let mut world = self;
            let result = work(&mut world);
            (world, result)
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

    /// Takes note of what happened in the cluster, as was heard of at that time.
    pub(super) fn note(&mut self, change: kubernetes::Change, arrived: Instant) {
        self.cluster.set_arrival(arrived.into_std());
        match change {
            kubernetes::Change::Services(Delta::List { objects, begins, ends }) => {
                if begins {
                    self.cluster.begin_services();
                }
                objects.iter().for_each(|service| self.note_dns(service));
                self.cluster.list_services(objects.into_iter().map(|s| (s.key, s.spec)));
                if ends {
                    self.cluster.end_services();
                    let Self { dns_services, cluster, .. } = self;
                    dns_services.retain(|key| cluster.has_service(key));
                    self.listed[0] = true;
                }
            }
            kubernetes::Change::Services(Delta::Apply(service)) => {
                self.note_dns(&service);
                self.cluster.apply_service(service.key, &service.spec);
            }
            kubernetes::Change::Services(Delta::Delete(key)) => {
                self.dns_services.remove(&key);
                self.cluster.delete_service(&key);
            }
            kubernetes::Change::Slices(Delta::List { objects, begins, ends }) => {
                if begins {
                    self.cluster.begin_slices();
                }
                self.cluster.list_slices(objects.into_iter().map(|s| (s.key, s.spec)));
                if ends {
                    self.cluster.end_slices();
                    self.listed[1] = true;
                }
            }
            kubernetes::Change::Slices(Delta::Apply(slice)) => self.cluster.apply_slice(slice.key, &slice.spec),
            kubernetes::Change::Slices(Delta::Delete(key)) => self.cluster.delete_slice(&key),
            kubernetes::Change::Namespaces(Delta::List { objects, begins, ends }) => {
                if begins {
                    self.cluster.begin_namespaces();
                }
                self.cluster.list_namespaces(objects);
                if ends {
                    self.cluster.end_namespaces();
                    self.listed[2] = true;
                }
            }
            kubernetes::Change::Namespaces(Delta::Apply(name)) => self.cluster.apply_namespace(&name),
            kubernetes::Change::Namespaces(Delta::Delete(name)) => self.cluster.delete_namespace(&name),
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
            keep::Kind::Service => kubernetes::Kind::Services,
            keep::Kind::Slice => kubernetes::Kind::EndpointSlices,
        })
    }

    /// Whether all of the cluster was listed once.
    pub(super) fn is_complete(&self) -> bool {
        self.listed == [true; 3]
    }

    /// What changes in the maps by some of what was noted, up to so much work; by all of it at first.
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

    /// How much work the last commit was.
    pub(super) const fn spent(&self) -> usize {
        self.cluster.spent()
    }

    /// Namespaces with changes that were noted and wait for a commit.
    pub(super) fn behind(&self) -> Vec<Behind> {
        if self.is_complete() { self.cluster.behind() } else { Vec::new() }
    }

    /// What waits has waited for too long, whenever it came.
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

/// What maps of so many names hold at most.
fn room(names: usize) -> Size {
    Size { names, units: names.saturating_mul(UNITS_PER_NAME).clamp(UNITS_MIN, Table::UNITS_MAX) }
}

fn settings(config: &Config, serial: u32) -> Settings {
    Settings {
        zone: config.cluster_domain.clone(),
        ttl: config.ttl,
        negative_answers: config.negative_answers,
        serial,
        pass: config.pass_names.clone(),
    }
}
