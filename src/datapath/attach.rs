//! Attaches the program to interfaces: by a tcx link where the kernel has that (6.6), which goes when the daemon does; else
//! by a filter on the clsact qdisc, which stays until somebody takes it away.
//!
//! Others attach to the same interfaces, and some end the chain. [`Attachments::look`] sees to it that ours is there and goes
//! first, and says where it does not; [`Messages`] tell when to look.

mod alive;
mod attachment;
mod clsact;
mod filters;
mod leftovers;
mod messages;
mod pace;
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
use alive::Alive;
use attachment::{Attachment, Pass};
use filters::Filters;
pub use messages::{Changed, Messages};

/// Which of an interface's hooks the program runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Packets that come in by the interface: on the host's end of a pod's veth.
    Ingress,
    /// Packets that go out by it: on the host's own.
    Egress,
}

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A BPF link at the front of the interface's chain.
    Tcx,
    /// A filter.
    Clsact {
        /// From 1 on; lower ones go first.
        priority: u16,
        /// With others that follow from it (two high bits differ), tells our filters from those of others, whichever daemon of
        /// this config made them.
        handle: u32,
    },
}

impl Hook {
    /// tcx where the kernel has it.
    #[must_use]
    pub fn detect(datapath: &Datapath, priority: u16, handle: u32) -> Self {
        if tcx::is_supported(datapath.any_program()) { Self::Tcx } else { Self::Clsact { priority, handle } }
    }

    /// Takes away what daemons of this config that were killed left where no filter of this one has taken its place. Returns
    /// how much that was. To be called when this one's filters are there, so that there is no gap, and again at its end, for those
    /// that were killed since; what they left beside a filter of this one goes with each look.
    ///
    /// # Errors
    /// Where netlink does not work.
    pub async fn remove_leftovers(self, interfaces: &Interfaces) -> Result<usize, InterfaceError> {
        let Self::Clsact { handle, .. } = self else { return Ok(0) };
        let numbers = interfaces::numbers(interfaces.netlink()).await?;
        let remove = move || -> io::Result<usize> {
            let filters = Filters::open()?;
            numbers.iter().map(|ifindex| leftovers::remove(&filters, *ifindex, handle)).sum()
        };
        Ok(spawn_blocking(remove).await.map_err(io::Error::from)??)
    }
}

/// Why an interface has no program.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another program wants to stay where it is.
    #[error(
        "{name}: {source}: another filter on clsact has priority {priority} (`tc filter show dev {name} {direction}`); \
             set TcPriority to a free one"
    )]
    Taken {
        /// The interface.
        name: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// The config's.
        priority: u16,
        /// The kernel's error.
        source: io::Error,
    },
    /// Nothing can be attached to what goes out by it.
    #[error(
        "{name}: its qdisc is of kind ingress (`tc qdisc show dev {name} ingress`), by which nothing sees what goes out, and \
         which leaves no room for clsact: have who made it use clsact, which takes the same filters, or delete it (`tc qdisc \
         del dev {name} ingress`)"
    )]
    NoEgress {
        /// The interface.
        name: String,
    },
    /// The program that it needs.
    #[error("{name}: {source}")]
    Load {
        /// The interface.
        name: String,
        /// Why it is not loaded.
        source: LoadError,
    },
    /// No permission.
    #[error(
        "{name}: no permission to attach the program: CAP_NET_ADMIN is needed in the interface's network namespace"
    )]
    Permission {
        /// The interface.
        name: String,
    },
    /// Anything else.
    #[error("{name}: attaching the program: {source}")]
    Other {
        /// The interface.
        name: String,
        /// The kernel's error.
        source: io::Error,
    },
}

/// The program that an interface needs.
#[must_use]
pub const fn program_for(link: &Link, direction: Direction) -> Program {
    match (link.header, direction) {
        (Header::None, _) => Program::Ip,
        (_, Direction::Ingress) if link.is_pods() => Program::EthernetToPeer,
        _ => Program::Ethernet,
    }
}

/// A program in the kernel.
#[derive(Clone)]
struct Loaded {
    /// Holds on to it, so that its number is no other's.
    fd: Arc<OwnedFd>,
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

    /// What the kernel numbers it with.
    const fn id(&self) -> u32 {
        self.id
    }
}

/// Interfaces that shall have the program, and no others, each with the one that it needs. Made where programs are loaded.
#[derive(Default)]
pub struct AttachPlan {
    links: Vec<(Link, Program)>,
    programs: HashMap<Program, Loaded>,
    /// Of those whose program does not load.
    errors: Vec<AttachError>,
}

impl AttachPlan {
    /// Loads what is not loaded yet.
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

    /// The interfaces, by number.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.links.iter().map(|(link, _)| link.ifindex)
    }
}

/// A program of somebody else's that runs before ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFront {
    /// As the kernel numbers BPF programs; other kinds of filters have none.
    pub id: Option<u32>,
    /// What its filter is called; of tcx it takes more rights to know.
    pub name: Option<String>,
    /// Of its filter.
    pub priority: Option<u16>,
}

impl fmt::Display for InFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.id) {
            (Some(name), Some(id)) => write!(f, "{name} (id {id})"),
            (None, Some(id)) => write!(f, "program {id}"),
            (Some(kind), None) => write!(f, "a {kind} filter"),
            (None, None) => write!(f, "a filter"),
        }
    }
}

fn list(programs: &[InFront]) -> String {
    programs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// An interface with the program, and where in its chain that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of the interface.
    pub ifindex: u32,
    /// Of the interface.
    pub name: String,
    /// Empty where ours is first.
    pub in_front: Vec<InFront>,
}

/// What a pass over the interfaces did to one, or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The program is on this interface from now on.
    Attached(String),
    /// It is not any more; or the interface is gone.
    Detached(String),
    /// The interface is called otherwise.
    Renamed(String, String),
    /// It goes first again, before these.
    Moved(String, Vec<InFront>),
    /// These go before it.
    NotFirst(String, Vec<InFront>),
    /// It goes first again, and nobody contends for that.
    First(String),
    /// A living daemon of this config took its place.
    Replaced(String),
}

impl Done {
    /// Whether somebody should see to it.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(self, Self::NotFirst(..))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached(name) => write!(f, "{name}: attached"),
            Self::Detached(name) => write!(f, "{name}: detached"),
            Self::Renamed(old, new) => write!(f, "{old}: is called {new} now"),
            Self::Moved(name, passed) => write!(f, "{name}: moved to the front of the chain, before {}", list(passed)),
            Self::NotFirst(name, in_front) => write!(
                f,
                "{name}: not first in the chain: {} may end it, so that queries go unanswered by eDNS; `edns stats` shows it",
                list(in_front)
            ),
            Self::First(name) => write!(f, "{name}: first in the chain again"),
            Self::Replaced(name) => write!(f, "{name}: left to the daemon of this config that took it over"),
        }
    }
}

/// What a pass over the interfaces did, and what it could not do.
#[derive(Debug, Default)]
pub struct AttachReport {
    /// In order.
    pub done: Vec<Done>,
    /// Interfaces that could not be attached.
    pub errors: Vec<AttachError>,
}

/// The program on interfaces. Dropping this detaches it everywhere.
pub struct Attachments {
    hook: Hook,
    direction: Direction,
    /// By ifindex.
    by_index: BTreeMap<u32, Attachment>,
    /// Why other interfaces have it not.
    failed: Vec<String>,
    /// Behind the filters: they go first.
    alive: Alive,
}

impl Attachments {
    /// Nothing attached yet.
    #[must_use]
    pub fn new(hook: Hook, direction: Direction) -> Self {
        Self { hook, direction, by_index: BTreeMap::new(), failed: Vec::new(), alive: Alive::default() }
    }

    /// The interfaces that have the program.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let there = self.by_index.values().filter(|a| a.is_there());
        there.map(|a| Place { ifindex: a.link.ifindex, name: a.link.name.clone(), in_front: a.in_front().to_vec() })
    }

    /// Why interfaces that should have the program have it not.
    pub fn unattached(&self) -> impl Iterator<Item = String> {
        let waiting = self.by_index.values().filter(|a| a.is_waiting());
        let waiting = waiting.map(|a| format!("{}: taken away again and again; back within 30 s", a.link.name));
        self.failed.iter().cloned().chain(waiting)
    }

    /// When to look again, whatever happens.
    pub fn due(&self) -> Option<Instant> {
        self.by_index.values().filter_map(Attachment::due).min()
    }

    /// Makes it as planned. The kernel makes one change of interfaces at a time (RTNL): while it takes a hundred of them away
    /// this waits for seconds, so it is no work for a thread that has to go on.
    pub fn reconcile(&mut self, plan: AttachPlan) -> AttachReport {
        let mut report = AttachReport { done: Vec::new(), errors: plan.errors };
        self.failed = report.errors.iter().map(ToString::to_string).collect();
        self.by_index.retain(|ifindex, attachment| {
            let keep = plan.links.iter().any(|(l, _)| l.ifindex == *ifindex);
            if !keep && attachment.is_there() {
                report.done.push(Done::Detached(attachment.link.name.clone()));
            }
            keep
        });
        let pass = Pass::new(self.hook, self.direction);
        for (link, program) in plan.links {
            let wanted = plan.programs[&program].clone();
            let attachment = match self.by_index.remove(&link.ifindex) {
                Some(mut attachment) => {
                    attachment.follow(link, wanted, &mut report.done);
                    attachment
                }
                None => Attachment::new(&pass, link, wanted),
            };
            self.look_at(&pass, attachment, &mut report);
        }
        report
    }

    /// Looks whether all is as planned before, and mends what is not. Takes as long as [`Self::reconcile`] may.
    pub fn look(&mut self) -> AttachReport {
        let mut report = AttachReport::default();
        let pass = Pass::new(self.hook, self.direction);
        for attachment in std::mem::take(&mut self.by_index).into_values() {
            self.look_at(&pass, attachment, &mut report);
        }
        report
    }

    fn look_at(&mut self, pass: &Pass, mut attachment: Attachment, report: &mut AttachReport) {
        let looked = match (self.alive.say(attachment.wanted()), self.hook) {
            // Without it others would take the filter for a dead daemon's.
            (Err(e), Hook::Clsact { .. }) => Err(e),
            (Err(e), Hook::Tcx) => {
                log::debug!("the socket that says that the daemon lives: {e}");
                attachment.look(pass, &mut report.done)
            }
            (Ok(()), _) => attachment.look(pass, &mut report.done),
        };
        match looked {
            Ok(()) => drop(self.by_index.insert(attachment.link.ifindex, attachment)),
            // It went in the meantime.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
            // Dropped: the wrong program may drop what it should hand on.
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
        // A filter of another kind or protocol has the priority.
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
