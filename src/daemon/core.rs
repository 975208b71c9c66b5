//! What the daemon's parts share: the program, its maps, and what they hold.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use super::status::Status;
use super::world::{NODE_LOCAL_DNS, World};
use crate::config::ServerSpec;
use crate::control::{LookupReply, OutcomeCount, RecordReply, StatsReply};
use crate::datapath::counters::{FAMILIES, OUTCOMES};
use crate::datapath::{Datapath, Gate, Put, Table, probe};
use crate::zone::change::{self, Change};
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

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
    /// Nodes that did not fit.
    refused: HashMap<Name, Node>,
    /// Whether the view of the cluster is not current any more.
    stale: bool,
    /// What holds answers back: all of the cluster's, and the negative ones of each set of names.
    gates: [Gate; 3],
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
            refused: HashMap::new(),
            stale: false,
            gates: [Gate::Open; 3],
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
        changes.iter().filter(|change| self.change_one(change)).count()
    }

    fn change_one(&mut self, change: &Change) -> bool {
        match change {
            Change::Put(name, node) => self.put(name, node),
            Change::Remove(name) => {
                self.refused.remove(name);
                self.table.remove(name)
            }
        }
    }

    fn put(&mut self, name: &Name, node: &Node) -> bool {
        match self.table.put(name, node) {
            Ok(put) => {
                self.refused.remove(name);
                put != Put::Same
            }
            Err(e) => {
                if self.refused.is_empty() {
                    log::error!("names pass for lack of room: {e}");
                    // A name that is not there may be one that is said not to exist, or a wildcard's.
                    let [cluster, _, _] = self.gates;
                    self.put_gates([cluster, Gate::Incomplete, Gate::Incomplete]);
                    self.table.settle();
                }
                self.refused.insert(name.clone(), node.clone());
                // What was there may be what shall be no more: it must not go on.
                self.table.remove(name)
            }
        }
    }

    /// Tries again what did not fit. Negative answers come back when all of it is there.
    pub(super) fn complete(&mut self) {
        if self.refused.is_empty() || self.table.len() == self.table.max_len() {
            return;
        }
        let mut changes: Vec<Change> = self.refused.drain().map(|(name, node)| Change::Put(name, node)).collect();
        change::order(&mut changes);
        let mut left = changes.into_iter();
        for change in left.by_ref() {
            self.change_one(&change);
            if !self.refused.is_empty() {
                break;
            }
        }
        self.refused.extend(left.filter_map(|c| if let Change::Put(n, node) = c { Some((n, node)) } else { None }));
    }

    /// Tries again names that found no slot, when that helps.
    pub(super) fn retry(&mut self) {
        if self.table.takes_refused() {
            self.complete();
        }
    }

    /// How many names did not fit.
    pub(super) fn refused(&self) -> usize {
        self.refused.len()
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
        let complete = if self.refused.is_empty() { Gate::Open } else { Gate::Incomplete };
        let negative = if !synced {
            Gate::NotSynced
        } else if complete == Gate::Open && !current {
            Gate::Stale
        } else {
            complete
        };
        self.put_gates([if synced { Gate::Open } else { Gate::NotSynced }, complete, negative]);
    }

    fn put_gates(&mut self, mut gates: [Gate; 3]) {
        let opens = gates.iter().zip(self.gates).any(|(new, old)| *new == Gate::Open && old != Gate::Open);
        // A program that looked for a name before it was put must not find the gate open afterwards.
        if opens && !self.table.settle() {
            for (gate, old) in gates.iter_mut().zip(self.gates).filter(|(gate, _)| **gate == Gate::Open) {
                *gate = old;
            }
        }
        self.gates = gates;
        let settings = self.datapath.settings();
        let [cluster, static_negative, cluster_negative] = gates;
        settings.set_negative_gate(ZoneId::Static, static_negative);
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
            rekeys: self.table.rekeys(),
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
