//! What the daemon's parts share: the program, its maps, and what they hold.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::config::ServerSpec;
use crate::control::{LookupReply, OutcomeCount, RecordReply, StatsReply};
use crate::datapath::counters::{FAMILIES, OUTCOMES};
use crate::datapath::{Datapath, Gate, Put, Table, TableError, probe};
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// The program and its maps.
pub(super) struct Core {
    pub datapath: Datapath,
    pub table: Table,
    /// Addresses that the program answers for.
    pub servers: HashSet<IpAddr>,
    /// Interfaces that it is attached to.
    pub attached: Vec<String>,
    pub started: Instant,
    /// Whether everything passes, and how often that was said: a pause's end may come after the next one's start.
    pub pause: (bool, u64),
}

/// A node that did not fit, and why.
pub(super) type Refused<'a> = (&'a (Name, Node), TableError);

impl Core {
    pub(super) fn new(datapath: Datapath, table: Table, started: Instant) -> Self {
        Self { datapath, table, servers: HashSet::new(), attached: Vec::new(), started, pause: (false, 0) }
    }

    /// Whose queries are answered: without DnsServers, static names are for everybody's.
    pub(super) fn apply_servers(&mut self, specs: &HashSet<ServerSpec>) {
        const STATIC: u8 = 1 << ZoneId::Static as u8;
        let any = specs.is_empty() || specs.contains(&ServerSpec::Any);
        let wanted: HashSet<_> =
            specs.iter().filter_map(|s| if let ServerSpec::Addr(addr) = s { Some(*addr) } else { None }).collect();
        let gone = self.servers.difference(&wanted).map(|s| (s, 0));
        for (server, zones) in wanted.iter().map(|s| (s, STATIC)).chain(gone) {
            if let Err(e) = self.datapath.set_server(*server, zones) {
                log::error!("DnsServers: {server}: {e}");
            }
        }
        self.servers = wanted;
        self.datapath.settings().set_any_server(if any { STATIC } else { 0 });
    }

    /// Lets everything pass, or ends that. Returns how often that was said so far.
    pub(super) fn set_paused(&mut self, paused: bool) -> u64 {
        self.pause = (paused, self.pause.1 + 1);
        self.datapath.settings().set_paused(paused);
        self.pause.1
    }

    /// Writes nodes; returns how many were others before, and those that do not fit: their names pass.
    pub(super) fn put_all<'a>(&mut self, nodes: &[&'a (Name, Node)]) -> (usize, Vec<Refused<'a>>) {
        let mut changed = 0;
        let mut refused = Vec::new();
        for node in nodes {
            match self.table.put(&node.0, &node.1) {
                Ok(Put::Same) => {}
                Ok(Put::Added | Put::Changed) => changed += 1,
                Err(e) => {
                    // A name that is not there may be one that a wildcard must not match.
                    self.datapath.settings().set_negative_gate(ZoneId::Static, Gate::Incomplete);
                    if refused.is_empty() {
                        self.table.settle();
                    }
                    // What was there may be what shall be no more: it must not go on.
                    self.table.remove(&node.0);
                    refused.push((*node, e));
                }
            }
        }
        (changed, refused)
    }

    pub(super) fn remove_all(&mut self, names: &[Name]) {
        for name in names {
            self.table.remove(name);
        }
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
            map_bytes: self.table.memory() as u64,
            attached_interfaces: self.attached.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            paused: self.pause.0,
        })
    }
}
