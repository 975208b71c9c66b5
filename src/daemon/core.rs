//! What the daemon's parts share: the maps, and what commands want to know of them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use tokio::time::Instant;

use crate::control::server::Connection;
use crate::control::{LookupReply, OutcomeCount, RecordReply, Request, StatsReply};
use crate::datapath::counters::{FAMILIES, OUTCOMES};
use crate::datapath::{Datapath, Gate, Put, Table, TableError, probe};
use crate::zone::name::Name;
use crate::zone::node::{Node, ZoneId};

/// Index slots read for a command before others get a turn.
const RECORDS_SLICE: usize = 16384;

/// The program and its maps.
pub(super) struct Core {
    pub datapath: Datapath,
    pub table: Table,
    /// Addresses that the program answers for.
    pub servers: HashSet<IpAddr>,
    /// Interfaces that it is attached to.
    pub attached: Vec<String>,
    pub started: Instant,
}

/// A node that did not fit, and why.
pub(super) type Refused<'a> = (&'a (Name, Node), TableError);

impl Core {
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
                    // What was there may be what shall be no more: it must not go on.
                    self.table.remove(&node.0);
                    refused.push((*node, e));
                }
            }
        }
        (changed, refused)
    }

    fn lookup(&self, name: &str, qtype: u16) -> Result<LookupReply, String> {
        let query = probe::query(name, qtype).map_err(|e| format!("{name}: {e}"))?;
        let (outcome, message) = probe::run(&self.datapath, &query).map_err(|e| format!("running the program: {e}"))?;
        Ok(LookupReply { outcome: outcome.into(), message })
    }

    /// The records of some of the index' slots; None behind the last one.
    fn records(&self, slot: usize, slots: usize) -> Option<Vec<RecordReply>> {
        Some(
            self.table
                .records(slot, slots)?
                .into_iter()
                .map(|r| {
                    let (counts, answer) = r.answer.map_or(([0; 3], None), |(c, a)| (c, Some(a)));
                    RecordReply { name: r.name.to_string(), qtype: r.qtype, answer, counts }
                })
                .collect(),
        )
    }

    fn stats(&self) -> io::Result<StatsReply> {
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
        })
    }
}

/// Replies to a command. Nothing is borrowed while the command is waited for.
pub(super) async fn answer_command(mut connection: Connection, core: &RefCell<Core>) -> io::Result<()> {
    match connection.request().await? {
        Request::Lookup { name, qtype } => {
            let reply = core.borrow().lookup(&name, qtype);
            match reply {
                Ok(reply) => connection.reply([reply]).await,
                Err(e) => connection.error(&e).await,
            }
        }
        Request::Records => {
            let mut slot = 0;
            loop {
                let records = core.borrow().records(slot, RECORDS_SLICE);
                let Some(records) = records else { return Ok(()) };
                connection.reply(records).await?;
                slot += RECORDS_SLICE;
            }
        }
        Request::Stats => {
            let stats = core.borrow().stats()?;
            connection.reply([stats]).await
        }
    }
}
