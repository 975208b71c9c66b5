//! Attaches the program to interfaces: by a tcx link (since Linux 6.6), which ends with the daemon; on older kernels by a
//! filter on the clsact qdisc, which stays until it is deleted.
//!
//! Other programs attach to the same interfaces, and some end the chain. [`Attachments::check`] keeps the program attached and
//! first in the chain, and reports where it is not. [`Messages`] report when a chain changed.

mod attachment;
mod clsact;
mod filters;
mod liveness;
mod messages;
mod rate;
mod stale;
mod tcx;

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::spawn_blocking;

use super::program::{Datapath, LoadError, Program};
use super::sys;
use crate::interfaces::{self, Header, InterfaceError, Interfaces, Link};
use attachment::{Attachment, Round};
use filters::Filters;
use liveness::Liveness;
pub use messages::{Changed, Messages};

/// The tc hook of an interface that the program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Packets that the interface receives: used on the host's end of a pod's veth.
    Ingress,
    /// Packets that the interface sends: used on the host's uplink.
    Egress,
}

/// The way programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A tcx link at the front of the interface's chain.
    Tcx,
    /// A filter on the clsact qdisc.
    Clsact {
        /// The filter's priority, from 1; lower priorities run first.
        priority: u16,
        /// The filter's handle. It identifies the filters of all daemons of this config. A config also uses the three handles
        /// that differ in the two highest bits.
        handle: u32,
    },
}

impl Hook {
    /// [`Self::Tcx`] if the kernel has it, else [`Self::Clsact`].
    #[must_use]
    pub fn detect(datapath: &Datapath, priority: u16, handle: u32) -> Self {
        if tcx::is_supported(datapath.heartbeat_program()) { Self::Tcx } else { Self::Clsact { priority, handle } }
    }

    /// Removes the filters that killed daemons of this config left on any interface. Returns how many it removed.
    ///
    /// Call it after this daemon's filters are attached, so that a filter is always attached, and once more at the daemon's end,
    /// for daemons killed since. [`Attachments::check`] removes stale filters on the attached interfaces.
    ///
    /// # Errors
    /// If netlink fails.
    pub async fn remove_stale_filters(self, interfaces: &Interfaces) -> Result<usize, InterfaceError> {
        let Self::Clsact { handle, .. } = self else { return Ok(0) };
        let indexes = interfaces::ifindexes(interfaces.netlink()).await?;
        let remove = move || -> io::Result<usize> {
            let filters = Filters::open()?;
            indexes.iter().map(|ifindex| stale::remove(&filters, *ifindex, handle)).sum()
        };
        Ok(spawn_blocking(remove).await.map_err(io::Error::from)??)
    }
}

/// Why the program can't be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another filter on clsact has the priority.
    #[error(
        "{name}: {source}: another filter on clsact has priority {priority} (`tc filter show dev {name} {direction}`); \
             set TcPriority to a free one"
    )]
    Taken {
        /// The interface.
        name: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// `TcPriority` of the config.
        priority: u16,
        /// The kernel's error.
        source: io::Error,
    },
    /// The interface has a qdisc of kind ingress, so that no program can be attached to egress.
    #[error(
        "{name}: its qdisc is of kind ingress (`tc qdisc show dev {name} ingress`), which has no egress hook and is used \
         instead of clsact; make its owner use clsact, which takes the same filters, or delete it (`tc qdisc del dev {name} \
         ingress`)"
    )]
    NoEgress {
        /// The interface.
        name: String,
    },
    /// The program that the interface needs does not load.
    #[error("{name}: {source}")]
    Load {
        /// The interface.
        name: String,
        /// Why it does not load.
        source: LoadError,
    },
    /// The daemon lacks CAP_NET_ADMIN.
    #[error(
        "{name}: no permission to attach the program: CAP_NET_ADMIN is needed in the interface's network namespace"
    )]
    Permission {
        /// The interface.
        name: String,
    },
    /// Another error.
    #[error("{name}: attaching the program: {source}")]
    Other {
        /// The interface.
        name: String,
        /// The kernel's error.
        source: io::Error,
    },
}

/// The program that an interface needs in this direction.
#[must_use]
pub const fn program_for(link: &Link, direction: Direction) -> Program {
    match (link.header, direction) {
        (Header::None, _) => Program::Ip,
        (_, Direction::Ingress) if link.is_pods() => Program::EthernetToPeer,
        _ => Program::Ethernet,
    }
}

/// A loaded program.
#[derive(Clone)]
struct Loaded {
    /// Keeps the program loaded, so that the kernel can't give its ID to another.
    fd: Arc<OwnedFd>,
    /// The kernel's ID of the program.
    id: u32,
}

impl Loaded {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let id = sys::program_id(fd)?;
        Ok(Self { fd: Arc::new(fd.try_clone_to_owned()?), id })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    const fn id(&self) -> u32 {
        self.id
    }
}

/// The interfaces to attach to, each with the program that it needs.
#[derive(Default)]
pub struct AttachPlan {
    links: Vec<(Link, Program)>,
    programs: HashMap<Program, Loaded>,
    /// Errors of interfaces whose program does not load.
    errors: Vec<AttachError>,
}

impl AttachPlan {
    /// Plans to attach to these interfaces and to no others. Loads the programs that are not loaded yet, which blocks.
    #[must_use]
    pub fn new(datapath: &Datapath, links: &[Link], direction: Direction) -> Self {
        let mut plan = Self::default();
        for link in links {
            let program = program_for(link, direction);
            match plan.load(datapath, program) {
                Ok(()) => plan.links.push((link.clone(), program)),
                Err(source) => plan.errors.push(AttachError::Load { name: link.name.clone(), source }),
            }
        }
        plan
    }

    fn load(&mut self, datapath: &Datapath, program: Program) -> Result<(), LoadError> {
        if let Entry::Vacant(entry) = self.programs.entry(program) {
            let loaded = Loaded::new(datapath.program(program)?);
            entry.insert(loaded.map_err(|e| LoadError::Other(e.to_string()))?);
        }
        Ok(())
    }

    /// The ifindex of each interface.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.links.iter().map(|(link, _)| link.ifindex)
    }
}

/// A program of another owner that runs before ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// The kernel's ID of the BPF program; None for other kinds of filters.
    pub id: Option<u32>,
    /// The filter's name or kind; None on tcx, where reading it needs more capabilities.
    pub name: Option<String>,
    /// The filter's priority; None on tcx.
    pub priority: Option<u16>,
}

impl fmt::Display for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.id) {
            (Some(name), Some(id)) => write!(f, "{name} (id {id})"),
            (None, Some(id)) => write!(f, "program {id}"),
            (Some(kind), None) => write!(f, "a {kind} filter"),
            (None, None) => write!(f, "a filter"),
        }
    }
}

fn list(programs: &[Predecessor]) -> String {
    programs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// An interface that has the program, and the program's position in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The interface's ifindex.
    pub ifindex: u32,
    /// The interface's name.
    pub name: String,
    /// The programs that run before ours; empty if ours is first.
    pub in_front: Vec<Predecessor>,
}

/// A change of an interface's attachment that a check made or found. The first field is the interface's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachChange {
    /// The program was attached.
    Attached(String),
    /// The program was removed, or the interface no longer exists.
    Detached(String),
    /// The interface was renamed, from the first name to the second.
    Renamed(String, String),
    /// The program was moved to the front of the chain, before these programs.
    Moved(String, Vec<Predecessor>),
    /// These programs run before ours, which could not be moved before them.
    NotFirst(String, Vec<Predecessor>),
    /// The program has been first for a minute.
    First(String),
    /// A running daemon of this config replaced the program.
    Replaced(String),
}

impl AttachChange {
    /// Whether the operator should act on it.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(self, Self::NotFirst(..))
    }
}

impl fmt::Display for AttachChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached(name) => write!(f, "{name}: attached"),
            Self::Detached(name) => write!(f, "{name}: detached"),
            Self::Renamed(old, new) => write!(f, "{old}: renamed to {new}"),
            Self::Moved(name, passed) => write!(f, "{name}: moved to the front of the chain, before {}", list(passed)),
            Self::NotFirst(name, in_front) => write!(
                f,
                "{name}: not first in the chain: {} may end it before eDNS sees a query; `edns stats` shows the chain",
                list(in_front)
            ),
            Self::First(name) => write!(f, "{name}: first in the chain again"),
            Self::Replaced(name) => write!(f, "{name}: taken over by another daemon of this config"),
        }
    }
}

/// The result of [`Attachments::reconcile`] or [`Attachments::check`].
#[derive(Debug, Default)]
pub struct AttachReport {
    /// Changes, in the order in which they happened.
    pub changes: Vec<AttachChange>,
    /// Why the program could not be attached to some interfaces.
    pub errors: Vec<AttachError>,
}

/// The program's attachments to interfaces. Dropping this detaches it everywhere.
pub struct Attachments {
    hook: Hook,
    direction: Direction,
    /// Attachments by ifindex.
    by_index: BTreeMap<u32, Attachment>,
    /// Why the program is not attached to other interfaces.
    failed: Vec<String>,
    /// Declared after the attachments, so that it is dropped after the filters are deleted.
    liveness: Liveness,
}

impl Attachments {
    /// An empty set: nothing is attached yet.
    #[must_use]
    pub fn new(hook: Hook, direction: Direction) -> Self {
        Self { hook, direction, by_index: BTreeMap::new(), failed: Vec::new(), liveness: Liveness::default() }
    }

    /// The interfaces that have the program.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let attached = self.by_index.values().filter(|a| a.is_attached());
        attached.map(|a| Place { ifindex: a.link.ifindex, name: a.link.name.clone(), in_front: a.in_front().to_vec() })
    }

    /// Why interfaces that should have the program don't have it, one text for each.
    pub fn unattached(&self) -> impl Iterator<Item = String> {
        let waiting = self.by_index.values().filter(|a| a.is_waiting());
        let waiting =
            waiting.map(|a| format!("{}: removed repeatedly by others; attached again within 30 s", a.link.name));
        self.failed.iter().cloned().chain(waiting)
    }

    /// When [`Self::check`] is due even if no chain changes; None if never.
    pub fn due(&self) -> Option<Instant> {
        self.by_index.values().filter_map(Attachment::due).min()
    }

    /// Attaches and detaches the program as planned. Blocks while the kernel holds the RTNL lock: seconds if a hundred
    /// interfaces are being removed. Call it in a thread of its own.
    pub fn reconcile(&mut self, plan: AttachPlan) -> AttachReport {
        let mut report = AttachReport { changes: Vec::new(), errors: plan.errors };
        self.failed = report.errors.iter().map(ToString::to_string).collect();
        self.by_index.retain(|ifindex, attachment| {
            let is_planned = plan.links.iter().any(|(l, _)| l.ifindex == *ifindex);
            if !is_planned && attachment.is_attached() {
                report.changes.push(AttachChange::Detached(attachment.link.name.clone()));
            }
            is_planned
        });
        let round = Round::new(self.hook, self.direction);
        for (link, program) in plan.links {
            let wanted = plan.programs[&program].clone();
            let attachment = match self.by_index.remove(&link.ifindex) {
                Some(mut attachment) => {
                    attachment.set_wanted(link, wanted, &mut report.changes);
                    attachment
                }
                None => Attachment::new(&round, link, wanted),
            };
            self.check_one(&round, attachment, &mut report);
        }
        report
    }

    /// Checks every attachment and restores the planned state. Blocks as [`Self::reconcile`] does.
    pub fn check(&mut self) -> AttachReport {
        let mut report = AttachReport::default();
        let round = Round::new(self.hook, self.direction);
        for attachment in std::mem::take(&mut self.by_index).into_values() {
            self.check_one(&round, attachment, &mut report);
        }
        report
    }

    fn check_one(&mut self, round: &Round, mut attachment: Attachment, report: &mut AttachReport) {
        let checked = match (self.liveness.announce(attachment.wanted()), self.hook) {
            // Without the socket another daemon would remove the filter as a dead daemon's.
            (Err(e), Hook::Clsact { .. }) => Err(e),
            (Err(e), Hook::Tcx) => {
                log::debug!("binding the liveness socket: {e}");
                attachment.check(round, &mut report.changes)
            }
            (Ok(()), _) => attachment.check(round, &mut report.changes),
        };
        match checked {
            Ok(()) => drop(self.by_index.insert(attachment.link.ifindex, attachment)),
            // The interface was removed in the meantime.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
            // Dropping the attachment detaches the program: with redirect_peer it drops replies if the peer moved into this namespace.
            Err(e) => {
                let error = explain(self.hook, self.direction, &attachment.link, e);
                self.failed.push(error.to_string());
                report.errors.push(error);
            }
        }
    }
}

fn explain(hook: Hook, direction: Direction, link: &Link, source: io::Error) -> AttachError {
    let name = link.name.clone();
    if clsact::is_no_egress(&source) {
        return AttachError::NoEgress { name };
    }
    match (hook, source.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => AttachError::Permission { name },
        // The kernel refuses: a filter of another kind or protocol has this priority.
        (Hook::Clsact { priority, .. }, Some(libc::EINVAL | libc::EEXIST)) => {
            let direction = match direction {
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            };
            AttachError::Taken { name, direction, priority, source }
        }
        _ => AttachError::Other { name, source },
    }
}
