//! What the daemon's parts share: the program, its maps, and what they hold.

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
use crate::zone::cluster::share::Holder;
use crate::zone::node::ZoneId;

/// The program and its maps.
pub(super) struct DaemonState {
    pub datapath: Datapath,
    pub writer: Rc<Writer>,
    gates: Arc<Gates>,
    /// Addresses that the program answers for, with the sets of names.
    servers: HashMap<IpAddr, u8>,
    /// Interfaces that it is attached to.
    pub attached: Vec<Place>,
    /// Whether a command gets to know of queries.
    pub traced: bool,
    pub status: Status,
    /// Whether all of the cluster is in the maps.
    pub is_read: bool,
    /// Whether changes have waited for too long to be written.
    late: bool,
    /// When it was said last that those of a namespace have.
    late_said: Option<Instant>,
    /// What the cluster's names take.
    shares: Option<Shares>,
    shortage: Shortage,
    /// How many had no place for want of memory, when that was looked at last.
    short: usize,
    /// Whether everything passes, and how often that was said: a pause's end may come after the next one's start.
    pub pause: (bool, u64),
}

/// Between messages of changes that wait.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The bits of the two sets of names.
const STATIC: u8 = 1 << ZoneId::Static as u8;
const CLUSTER: u8 = 1 << ZoneId::Cluster as u8;

impl DaemonState {
    pub(super) fn new(datapath: Datapath, writer: Rc<Writer>, gates: Arc<Gates>, status: Status) -> Self {
        Self {
            datapath,
            writer,
            gates,
            servers: HashMap::new(),
            attached: Vec::new(),
            traced: false,
            status,
            is_read: false,
            late: false,
            late_said: None,
            shares: None,
            shortage: Shortage::default(),
            short: 0,
            pause: (false, 0),
        }
    }

    /// Whose queries are answered: without DnsServers, static names are for everybody's, and the cluster's for those of its
    /// own servers.
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
        let gone = self.servers.keys().filter(|s| !wanted.contains_key(s)).map(|s| (s, &0));
        let new = wanted.iter().filter(|(server, bits)| self.servers.get(server) != Some(bits));
        for (server, bits) in new.chain(gone) {
            if let Err(e) = self.datapath.set_server(*server, *bits) {
                log::error!("DnsServers: {server}: {e}");
            }
        }
        self.servers = wanted;
        let settings = self.datapath.settings();
        settings.set_first_servers(servers.iter().map(|server| (server, &bits)));
        // Whom these stand for is not known before the cluster is, whose gate says just that; so it is asked, not this.
        let follows = |spec: &ServerSpec| matches!(spec, ServerSpec::Auto | ServerSpec::Service { .. });
        let unknown = !zones.is_complete() && specs.iter().any(follows);
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

    /// Says that names pass for want of a place, or that none do any more.
    pub(super) fn tell_of_shortage(&mut self) {
        self.shortage.note(self.refused());
    }

    /// How many names pass for want of a place.
    fn refused(&self) -> usize {
        Reason::ALL.into_iter().map(|reason| self.passed(reason)).sum()
    }

    /// Those that do for this reason: which yield, or were refused.
    fn passed(&self, reason: Reason) -> usize {
        let yielding = self.shares.as_ref().filter(|shares| shares.passing.1 == reason).map_or(0, |s| s.passing.0);
        let hidden = self.shares.as_ref().filter(|_| reason == Reason::Full).map_or(0, |s| s.hidden);
        self.writer.refused(reason) + yielding + hidden
    }

    /// Units of memory that the maps can do with, where there was none for more names than when that was asked last.
    pub(super) fn memory_left(&mut self) -> Option<usize> {
        let short = self.writer.refused(Reason::Memory);
        (short > std::mem::replace(&mut self.short, short)).then(|| self.writer.reader().units() / 16 * 15)
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
        for HiddenObjects { namespace, items, hidden, largest: (kind, name, most) } in &shares.newly_hidden {
            let kind = if *kind == ObjectKind::Service { "Service" } else { "EndpointSlice" };
            log::warn!(
                "of some {items} endpoints and ports of namespace {namespace} {hidden} are not kept, since it or one of its \
                 Services has more than its share: what depends on them passes to the DNS server; its largest object is {kind} \
                 {name}, of {most}; raise MaxRecords to keep more"
            );
        }
        self.shares = Some(shares);
    }

    /// Holds back what can't be told for certain. Returns whether answers may come back, which takes [`Writer::open`].
    pub(super) fn set_gates(&mut self) -> bool {
        let current = self.status.is_current();
        self.status.staleness.note(self.is_read && !current);
        let late = self.writer.is_late();
        if late && !self.late {
            log::warn!(
                "changes wait to be written for more than {LATE:?}: names that are not known pass until they are"
            );
        }
        self.late = late;
        let (namespaces, behind) = self.writer.late_namespaces();
        self.tell_of_late(&namespaces);
        let expired = self.status.staleness.is_expired();
        self.gates.set(|facts| {
            facts.synced = self.is_read;
            facts.current = current;
            facts.expired = expired;
            facts.late = late;
            facts.behind = behind;
        })
    }

    /// Says that changes of these namespaces have waited for too long, now and then.
    fn tell_of_late(&mut self, namespaces: &[Box<str>]) {
        let is_due = self.late_said.is_none_or(|at| at.elapsed() >= SAY_AGAIN);
        let Some(namespace) = namespaces.first().filter(|_| is_due) else { return };
        self.late_said = Some(Instant::now());
        let others = match namespaces.len() - 1 {
            0 => String::new(),
            n => format!(", and those of {n} others"),
        };
        log::warn!(
            "changes of namespace {namespace}{others} have waited for more than {LATE:?}, since they take long to work out: \
             negative answers there pass until they are written"
        );
    }

    pub(super) fn lookup(&self, name: &str, qtype: u16) -> Result<LookupReply, String> {
        let query = probe::query(name, qtype).map_err(|e| format!("{name}: {e}"))?;
        let (outcome, message) = probe::run(&self.datapath, &query).map_err(|e| format!("running the program: {e}"))?;
        Ok(LookupReply { outcome: outcome.into(), message })
    }

    /// The records of some of the index' slots; None behind the last one.
    pub(super) fn records(&self, slot: usize, slots: usize) -> Option<Vec<RecordReply>> {
        Some(
            self.writer
                .reader()
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
        self.attached.iter().map(|place| place.name.clone()).collect()
    }

    /// Why the daemon is not ready, where it is not.
    pub(super) fn not_ready(&self) -> Option<String> {
        self.status.not_ready(!self.attached.is_empty())
    }

    /// Names that pass for want of a place, by reason.
    fn names_passed(&self) -> Vec<PassedReply> {
        Reason::ALL.map(|r| PassedReply { reason: r.label().into(), count: self.passed(r) as u64 }).into()
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
            events_lost: self.datapath.events_lost()?,
            paused: self.pause.0,
        })
    }
}

fn interface_reply(place: &Place) -> InterfaceReply {
    let in_front = place.in_front.iter().map(|f| InFrontReply { id: f.id, name: f.name.clone(), priority: f.priority });
    InterfaceReply { name: place.name.clone(), is_first: place.in_front.is_empty(), in_front: in_front.collect() }
}
