//! State that the daemon's tasks share: the program, its maps, and their contents.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::gates::Gates;
use super::shortage::Shortage;
use super::status::Status;
use super::waiting::LATE;
use super::writer::Writer;
use super::zones::{NODE_LOCAL_DNS, Shares, Zones};
use crate::config::ServerSpec;
use crate::control::{
    HolderReply, InFrontReply, InterfaceReply, LookupReply, OutcomeCount, PassedReply, RecordReply, StatsReply,
};
use crate::datapath::attach::Place;
use crate::datapath::counters::FAMILIES;
use crate::datapath::{Datapath, OUTCOMES, Reason, probe};
use crate::zone::cluster::keep::{HiddenObjects, ObjectKind};
use crate::zone::cluster::share::NamespaceUse;
use crate::zone::node::ZoneId;

/// The program, its maps, and the facts that decide which answers are given.
pub(super) struct DaemonState {
    pub datapath: Datapath,
    pub writer: Rc<Writer>,
    gates: Arc<Gates>,
    /// Addresses of the DNS servers for which the program answers, and the zones it answers (bits).
    servers: HashMap<IpAddr, u8>,
    /// Interfaces with the program.
    pub attached: Vec<Place>,
    /// Whether a command traces queries.
    pub is_traced: bool,
    pub status: Status,
    /// Whether all names of the cluster have been written to the maps once.
    pub is_cluster_written: bool,
    /// Whether changes were late at the last check.
    is_late: bool,
    /// When late namespaces were last logged.
    late_logged: Option<Instant>,
    /// Use of the maps by the cluster's names.
    shares: Option<Shares>,
    shortage: Shortage,
    /// Number of names without memory for their nodes, at the last check.
    without_memory: usize,
    pub pause: Pause,
}

/// The state of `edns pause`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pause {
    /// Whether all queries pass.
    pub is_on: bool,
    /// Number of pause and resume commands so far: the timer of an old pause must not end a newer one.
    pub count: u64,
}

/// Minimum interval of messages about late namespaces.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Bits of the two zones in the map of servers.
const STATIC: u8 = 1 << ZoneId::Static as u8;
const CLUSTER: u8 = 1 << ZoneId::Cluster as u8;

impl DaemonState {
    /// Nothing is synced or attached yet.
    pub(super) fn new(datapath: Datapath, writer: Rc<Writer>, gates: Arc<Gates>, status: Status) -> Self {
        Self {
            datapath,
            writer,
            gates,
            servers: HashMap::new(),
            attached: Vec::new(),
            is_traced: false,
            status,
            is_cluster_written: false,
            is_late: false,
            late_logged: None,
            shares: None,
            shortage: Shortage::default(),
            without_memory: 0,
            pause: Pause::default(),
        }
    }

    /// Sets the servers for which the program answers. Without `DnsServers`, static names are answered for any server, and names
    /// of the cluster for the servers of the cluster (`auto`).
    pub(super) fn apply_servers(&mut self, specs: &HashSet<ServerSpec>, zones: &Zones) {
        let any = specs.contains(&ServerSpec::Any);
        let (any, bits) = match specs.is_empty() {
            true => (STATIC, CLUSTER),
            false => (if any { STATIC | CLUSTER } else { 0 }, STATIC | CLUSTER),
        };
        let auto = HashSet::from([ServerSpec::Auto]);
        let specs = if specs.is_empty() { &auto } else { specs };
        let servers: Vec<IpAddr> = specs.iter().flat_map(|spec| zones.servers(spec)).collect();
        let wanted: HashMap<IpAddr, u8> = servers.iter().map(|server| (*server, bits)).collect();
        let removed = self.servers.keys().filter(|s| !wanted.contains_key(s)).map(|s| (s, &0));
        let new = wanted.iter().filter(|(server, bits)| self.servers.get(server) != Some(bits));
        for (server, bits) in new.chain(removed) {
            if let Err(e) = self.datapath.set_server(*server, *bits) {
                log::error!("DnsServers: {server}: {e}");
            }
        }
        self.servers = wanted;
        let settings = self.datapath.settings();
        settings.set_first_servers(servers.iter().map(|server| (server, &bits)));
        // The addresses of these are unknown before the initial sync. Until then accept any server; the closed gate makes queries
        // pass.
        let needs_cluster = |spec: &ServerSpec| matches!(spec, ServerSpec::Auto | ServerSpec::Service { .. });
        let unknown = !zones.is_complete() && specs.iter().any(needs_cluster);
        settings.set_any_server(if unknown { any | CLUSTER } else { any });
    }

    /// Addresses of the DNS servers for which the program answers. The address of NodeLocal DNSCache, which may not be in use, is
    /// last.
    pub(super) fn servers(&self) -> Vec<IpAddr> {
        let mut servers: Vec<IpAddr> = self.servers.keys().copied().collect();
        servers.sort_by_key(|server| (*server == NODE_LOCAL_DNS, *server));
        servers
    }

    /// Begins or ends a pause, during which all queries pass. Returns the new [`Pause::count`].
    pub(super) fn set_paused(&mut self, paused: bool) -> u64 {
        self.pause = Pause { is_on: paused, count: self.pause.count + 1 };
        self.datapath.settings().set_paused(paused);
        self.pause.count
    }

    /// Logs the start or end of a shortage of room in the maps.
    pub(super) fn log_shortage(&mut self) {
        self.shortage.update(self.refused());
    }

    /// Number of names that are not answered because they have no place in the maps.
    fn refused(&self) -> usize {
        Reason::ALL.into_iter().map(|reason| self.passed(reason)).sum()
    }

    /// Number of names that have no place in the maps for this reason: withheld, not kept, or refused by the table.
    fn passed(&self, reason: Reason) -> usize {
        let withheld = self.shares.as_ref().filter(|shares| shares.withheld.1 == reason).map_or(0, |s| s.withheld.0);
        let hidden = self.shares.as_ref().filter(|_| reason == Reason::Full).map_or(0, |s| s.hidden);
        self.writer.refused(reason) + withheld + hidden
    }

    /// The new limit of the memory of all names, in units: 15/16 of the memory in use, which leaves room for what must be written.
    /// None unless the kernel has refused memory for more names than at the last call.
    pub(super) fn take_memory_limit(&mut self) -> Option<usize> {
        let without_memory = self.writer.refused(Reason::Memory);
        (without_memory > std::mem::replace(&mut self.without_memory, without_memory))
            .then(|| self.writer.reader().units() / 16 * 15)
    }

    /// Records what the cluster's names use of the maps, and logs namespaces that have begun to exceed their fair share.
    pub(super) fn set_shares(&mut self, shares: Shares) {
        let (_, reason) = shares.withheld;
        for NamespaceUse { namespace, names, passing, largest } in &shares.new {
            let (service, most) = largest.as_ref().map_or(("", 0), |(service, names)| (service, *names));
            let cure = if reason == Reason::Full { "; raise MaxRecords to answer all of them" } else { "" };
            log::warn!(
                "record maps full: namespace {namespace} exceeds its fair share: {passing} of its {names} names are withheld; \
                 its largest Service is {service} with {most} names{cure}"
            );
        }
        for HiddenObjects { namespace, items, hidden, largest: (kind, name, most) } in &shares.newly_hidden {
            let kind = if *kind == ObjectKind::Service { "Service" } else { "EndpointSlice" };
            log::warn!(
                "memory for objects full: namespace {namespace}, or one of its Services, exceeds its fair share: {hidden} of about \
                 {items} endpoints and ports are not kept, and names that depend on them are not answered; its largest object \
                 is {kind} {name} with {most}; raise MaxRecords to keep more"
            );
        }
        self.shares = Some(shares);
    }

    /// Closes the gates of answers that may be wrong now. Returns true if a closed gate may open: the caller should then call
    /// [`Writer::open`].
    pub(super) fn set_gates(&mut self) -> bool {
        let current = self.status.is_current();
        self.status.staleness.update(self.is_cluster_written && !current);
        // Before the initial sync the gates of the cluster are closed anyway.
        let late = self.writer.is_late() || self.is_cluster_written && self.writer.has_late_updates();
        if late && !self.is_late {
            log::warn!("map updates late by more than {LATE:?}: negative answers suspended until they are written");
        }
        self.is_late = late;
        let (namespaces, late_gates) = self.writer.late_namespaces();
        self.log_late_namespaces(&namespaces);
        let expired = self.status.staleness.is_expired();
        self.gates.set(|facts| {
            facts.synced = self.is_cluster_written;
            facts.current = current;
            facts.expired = expired;
            facts.late = late;
            facts.late_namespaces = late_gates;
        })
    }

    /// Logs that changes of these namespaces are late, once a minute at most.
    fn log_late_namespaces(&mut self, namespaces: &[Box<str>]) {
        let is_due = self.late_logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL);
        let Some(namespace) = namespaces.first().filter(|_| is_due) else { return };
        self.late_logged = Some(Instant::now());
        let others = match namespaces.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} others"),
        };
        log::warn!(
            "map updates late by more than {LATE:?}: namespace {namespace}{others}; negative answers there suspended"
        );
    }

    /// Asks the program in the kernel for this name and type.
    ///
    /// # Errors
    /// If the name is invalid or the program can't be run.
    pub(super) fn lookup(&self, name: &str, qtype: u16) -> Result<LookupReply, String> {
        let query = probe::query(name, qtype).map_err(|e| format!("{name}: {e}"))?;
        let (outcome, message) = probe::run(&self.datapath, &query).map_err(|e| format!("running the program: {e}"))?;
        Ok(LookupReply { outcome: outcome.into(), message })
    }

    /// The records in these slots of the index; None after the last slot.
    pub(super) fn records(&self, slot: usize, slots: usize) -> Option<Vec<RecordReply>> {
        Some(
            self.writer
                .reader()
                .records(slot, slots)?
                .into_iter()
                .map(|r| {
                    let (counts, answer) = r.answer.map_or(([0; 3], None), |(c, a)| (c, Some(a)));
                    RecordReply {
                        name: format!("{}{}", if r.is_below { "*." } else { "" }, r.name),
                        qtype: r.qtype,
                        answer,
                        counts,
                    }
                })
                .collect(),
        )
    }

    /// Names of the interfaces with the program.
    pub(super) fn attached_names(&self) -> Vec<String> {
        self.attached.iter().map(|place| place.name.clone()).collect()
    }

    /// Why the daemon is not ready; None if it is.
    pub(super) fn not_ready(&self) -> Option<String> {
        self.status.not_ready(!self.attached.is_empty())
    }

    /// Number of names without a place in the maps, by reason.
    fn names_passed(&self) -> Vec<PassedReply> {
        Reason::ALL.map(|r| PassedReply { reason: r.label().into(), count: self.passed(r) as u64 }).into()
    }

    /// Namespaces with the most names.
    fn holders(&self) -> Vec<HolderReply> {
        let reply = |h: &NamespaceUse| HolderReply {
            namespace: h.namespace.to_string(),
            names: h.names as u64,
            passing: h.passing as u64,
            largest: h.largest.as_ref().map(|(service, _)| service.to_string()),
        };
        self.shares.iter().flat_map(|s| s.holders.iter().map(reply)).collect()
    }

    /// The reply to `edns stats`.
    ///
    /// # Errors
    /// If the counters can't be read.
    pub(super) fn stats(&self) -> io::Result<StatsReply> {
        let (counts, events_lost) = self.datapath.counters()?;
        let queries = OUTCOMES.iter().zip(counts).flat_map(|(outcome, counts)| {
            FAMILIES.iter().zip(counts).map(|(family, count)| OutcomeCount {
                outcome: outcome.name.into(),
                family: (*family).into(),
                count,
            })
        });
        let reader = self.writer.reader();
        Ok(StatsReply {
            queries: queries.collect(),
            records: reader.len() as u64,
            max_records: reader.max_len() as u64,
            refused_records: self.refused() as u64,
            names_passed: self.names_passed(),
            holders: self.holders(),
            rekeys: reader.rekeys(),
            map_bytes: reader.memory() as u64,
            attached_interfaces: self.attached_names(),
            interfaces: self.attached.iter().map(interface_reply).collect(),
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
            events_lost,
            paused: self.pause.is_on,
        })
    }
}

fn interface_reply(place: &Place) -> InterfaceReply {
    let in_front = place.in_front.iter().map(|f| InFrontReply { id: f.id, name: f.name.clone(), priority: f.priority });
    InterfaceReply { name: place.name.clone(), is_first: place.in_front.is_empty(), in_front: in_front.collect() }
}
