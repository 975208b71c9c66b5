//! What the daemon's parts share: the program, its maps, and what they hold.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use super::status::Status;
use super::world::{NODE_LOCAL_DNS, Shares, World};
use crate::config::ServerSpec;
use crate::control::{HolderReply, LookupReply, OutcomeCount, PassedReply, RecordReply, StatsReply};
use crate::datapath::counters::{FAMILIES, OUTCOMES};
use crate::datapath::{Datapath, Gate, Reason, Refused, Table, probe};
use crate::zone::change::Change;
use crate::zone::cluster::share::Holder;
use crate::zone::node::ZoneId;

/// The program and its maps.
pub(super) struct Core {
    pub datapath: Datapath,
    pub table: Table,
    /// Addresses that the program answers for, with the sets of names.
    servers: HashMap<IpAddr, u8>,
    /// Interfaces that it is attached to, by number and name.
    pub attached: Vec<(u32, String)>,
    /// Whether a command gets to know of queries.
    pub traced: bool,
    pub status: Status,
    /// Names that did not fit.
    refused: Refused,
    /// Whether it was said that names pass for want of a place.
    is_short: bool,
    /// How many did not fit for want of memory, when that was looked at last.
    short: usize,
    /// What the cluster's names take.
    shares: Option<Shares>,
    /// Whether the view of the cluster is not current any more.
    stale: bool,
    /// What holds the cluster's answers back: all of them, and the negative ones.
    gates: [Gate; 2],
    /// Whether everything passes, and how often that was said: a pause's end may come after the next one's start.
    pub pause: (bool, u64),
}

/// The bits of the two sets of names.
const STATIC: u8 = 1 << ZoneId::Static as u8;
const CLUSTER: u8 = 1 << ZoneId::Cluster as u8;

impl Core {
    pub(super) fn new(datapath: Datapath, table: Table, status: Status) -> Self {
        Self {
            datapath,
            table,
            servers: HashMap::new(),
            attached: Vec::new(),
            traced: false,
            status,
            refused: Refused::default(),
            is_short: false,
            short: 0,
            shares: None,
            stale: false,
            gates: [Gate::Open; 2],
            pause: (false, 0),
        }
    }

    /// Whose queries are answered: without DnsServers, static names are for everybody's, and the cluster's for those of its
    /// own servers.
    pub(super) fn apply_servers(&mut self, specs: &HashSet<ServerSpec>, world: &World) {
        let any = specs.contains(&ServerSpec::Any);
        let (any, zones) = match specs.is_empty() {
            true => (STATIC, CLUSTER),
            false => (if any { STATIC | CLUSTER } else { 0 }, STATIC | CLUSTER),
        };
        let auto = HashSet::from([ServerSpec::Auto]);
        let specs = if specs.is_empty() { &auto } else { specs };
        let servers: Vec<IpAddr> = specs.iter().flat_map(|spec| world.servers(spec)).collect();
        let wanted: HashMap<IpAddr, u8> = servers.iter().map(|server| (*server, zones)).collect();
        let gone = self.servers.keys().filter(|s| !wanted.contains_key(s)).map(|s| (s, &0));
        let new = wanted.iter().filter(|(server, zones)| self.servers.get(server) != Some(zones));
        for (server, zones) in new.chain(gone) {
            if let Err(e) = self.datapath.set_server(*server, *zones) {
                log::error!("DnsServers: {server}: {e}");
            }
        }
        self.servers = wanted;
        let settings = self.datapath.settings();
        settings.set_first_servers(servers.iter().map(|server| (server, &zones)));
        // Whom these stand for is not known before the cluster is, whose gate says just that; so it is asked, not this.
        let follows = |spec: &ServerSpec| matches!(spec, ServerSpec::Auto | ServerSpec::Service { .. });
        let unknown = !world.is_complete() && specs.iter().any(follows);
        settings.set_any_server(if unknown { any | CLUSTER } else { any });
    }

    /// Addresses that the program answers for; that of a cache on the node, which may not be there, last.
    pub(super) fn servers(&self) -> Vec<IpAddr> {
        let mut servers: Vec<IpAddr> = self.servers.keys().copied().collect();
        servers.sort_by_key(|server| (*server == NODE_LOCAL_DNS, *server));
        servers
    }

    /// Lets everything pass, or ends that. Returns how often that was said so far.
    pub(super) fn set_paused(&mut self, paused: bool) -> u64 {
        self.pause = (paused, self.pause.1 + 1);
        self.datapath.settings().set_paused(paused);
        self.pause.1
    }

    /// Makes changes; returns how many there were. What does not fit passes.
    pub(super) fn change(&mut self, changes: &[Change]) -> usize {
        changes.iter().filter(|change| self.refused.apply(&mut self.table, change)).count()
    }

    /// Tries again what did not fit.
    pub(super) fn complete(&mut self) {
        self.refused.settle(&mut self.table);
    }

    /// Says that names pass for want of a place, or that none do any more.
    pub(super) fn tell_of_shortage(&mut self) {
        let is_short = self.refused() > 0;
        if is_short == std::mem::replace(&mut self.is_short, is_short) {
            return;
        }
        if is_short {
            log::warn!("{} names pass for want of a place in the maps; `edns stats` says why", self.refused());
        } else {
            log::info!("all names are in the maps again");
        }
    }

    /// How many names pass for want of a place.
    pub(super) fn refused(&self) -> usize {
        self.refused.len() + self.shares.as_ref().map_or(0, |s| s.passing.0)
    }

    /// Units of memory that the maps can do with, where there was none for more names than when that was asked last.
    pub(super) fn memory_left(&mut self) -> Option<usize> {
        let short = self.refused.count(Reason::Memory);
        (short > std::mem::replace(&mut self.short, short)).then(|| self.table.units() / 16 * 15)
    }

    /// Takes note of what the cluster's names take, and tells of who has more than there is room for.
    pub(super) fn set_shares(&mut self, shares: Shares) {
        let (_, reason) = shares.passing;
        for Holder { namespace, names, passing, largest } in &shares.new {
            let (service, most) = largest.as_ref().map_or(("", 0), |(service, names)| (service, *names));
            let cure = if reason == Reason::Full { "; raise MaxRecords to answer all" } else { "" };
            log::warn!(
                "record maps full: of the {names} names of namespace {namespace}, which has more than its share, {passing} \
                 pass to the DNS server; its largest Service is {service}, of {most} names{cure}"
            );
        }
        self.shares = Some(shares);
    }

    /// Holds back what can't be told for certain.
    pub(super) fn set_gates(&mut self) {
        let (synced, current) = (self.status.synced, self.status.is_current());
        let stale = synced && !current;
        if stale != std::mem::replace(&mut self.stale, stale) {
            if stale {
                log::warn!("Kubernetes: out of touch: what is known is answered, names that are not known pass");
            } else {
                log::info!("Kubernetes: the view is current: names that don't exist are answered again");
            }
        }
        let positive = if synced { Gate::Open } else { Gate::NotSynced };
        let negative = if synced && !current { Gate::Stale } else { positive };
        self.put_gates([positive, negative]);
    }

    fn put_gates(&mut self, mut gates: [Gate; 2]) {
        let opens = gates.iter().zip(self.gates).any(|(new, old)| *new == Gate::Open && old != Gate::Open);
        // A program that looked for a name before it was put must not find the gate open afterwards.
        if opens && !self.table.settle() {
            for (gate, old) in gates.iter_mut().zip(self.gates).filter(|(gate, _)| **gate == Gate::Open) {
                *gate = old;
            }
        }
        self.gates = gates;
        let settings = self.datapath.settings();
        let [cluster, cluster_negative] = gates;
        settings.set_negative_gate(ZoneId::Cluster, cluster_negative);
        settings.set_positive_gate(ZoneId::Cluster, cluster);
    }

    pub(super) fn lookup(&self, name: &str, qtype: u16) -> Result<LookupReply, String> {
        let query = probe::query(name, qtype).map_err(|e| format!("{name}: {e}"))?;
        let (outcome, message) = probe::run(&self.datapath, &query).map_err(|e| format!("running the program: {e}"))?;
        Ok(LookupReply { outcome: outcome.into(), message })
    }

    /// The records of some of the index' slots; None behind the last one.
    pub(super) fn records(&self, slot: usize, slots: usize) -> Option<Vec<RecordReply>> {
        Some(
            self.table
                .records(slot, slots)?
                .into_iter()
                .map(|r| {
                    let (counts, answer) = r.answer.map_or(([0; 3], None), |(c, a)| (c, Some(a)));
                    RecordReply {
                        name: format!("{}{}", if r.below { "*." } else { "" }, r.name),
                        qtype: r.qtype,
                        answer,
                        counts,
                    }
                })
                .collect(),
        )
    }

    /// What the interfaces with the program are called.
    pub(super) fn attached_names(&self) -> Vec<String> {
        self.attached.iter().map(|(_, name)| name.clone()).collect()
    }

    /// Why the daemon is not ready, where it is not.
    pub(super) fn not_ready(&self) -> Option<String> {
        self.status.not_ready(!self.attached.is_empty())
    }

    /// Names that pass for want of a place, by reason.
    fn names_passed(&self) -> Vec<PassedReply> {
        let passing = |reason| self.shares.as_ref().map_or(0, |s| if s.passing.1 == reason { s.passing.0 } else { 0 });
        let count = |reason| (self.refused.count(reason) + passing(reason)) as u64;
        Reason::ALL.map(|r| PassedReply { reason: r.label().into(), count: count(r) }).into()
    }

    /// Who holds most names.
    fn holders(&self) -> Vec<HolderReply> {
        let reply = |h: &Holder| HolderReply {
            namespace: h.namespace.to_string(),
            names: h.names as u64,
            passing: h.passing as u64,
            largest: h.largest.as_ref().map(|(service, _)| service.to_string()),
        };
        self.shares.iter().flat_map(|s| s.holders.iter().map(reply)).collect()
    }

    pub(super) fn stats(&self) -> io::Result<StatsReply> {
        let counts = self.datapath.queries()?;
        let queries = OUTCOMES.iter().zip(counts).flat_map(|(outcome, counts)| {
            FAMILIES.iter().zip(counts).map(|(family, count)| OutcomeCount {
                outcome: (*outcome).into(),
                family: (*family).into(),
                count,
            })
        });
        Ok(StatsReply {
            queries: queries.collect(),
            records: self.table.len() as u64,
            max_records: self.table.max_len() as u64,
            refused_records: self.refused() as u64,
            names_passed: self.names_passed(),
            holders: self.holders(),
            map_bytes: self.table.memory() as u64,
            attached_interfaces: self.attached_names(),
            unattached: self.status.unattached.clone(),
            attach_errors: self.status.attach_errors,
            reloads: self.status.reloads,
            reload_errors: self.status.reload_errors,
            reload_error: self.status.reload_error.clone(),
            held_files: self.status.held.clone(),
            sync: self.status.sync(),
            not_ready: self.not_ready(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            start_time_seconds: self.status.start_time.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
            uptime_seconds: self.status.started.elapsed().as_secs(),
            events_lost: self.datapath.events_lost()?,
            paused: self.pause.0,
        })
    }
}
