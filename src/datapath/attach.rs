//! Attaches the program to interfaces: by a tcx link where the kernel has that (6.6), which goes when the daemon does; else
//! by a filter on the clsact qdisc, which stays until somebody takes it away.

mod clsact;
mod leftovers;
mod tcx;

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::interfaces::{self, Header, InterfaceError, Interfaces, Link};
use super::load::{Datapath, LoadError, Program};
use clsact::Filter;
use leftovers::Alive;
use tcx::TcxLink;

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
        /// Tells our filters from others of that priority, whichever daemon of this config made them.
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
    /// how much that was. To be called when this one's filters are there, so that there is no gap.
    ///
    /// # Errors
    /// Where netlink does not work.
    pub async fn remove_leftovers(self, interfaces: &Interfaces) -> Result<usize, InterfaceError> {
        let Self::Clsact { handle, .. } = self else { return Ok(0) };
        let mut removed = 0;
        for link in interfaces::all(interfaces.netlink()).await? {
            removed += leftovers::remove(interfaces.netlink(), link.ifindex, handle).await?;
        }
        Ok(removed)
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
        (_, Direction::Ingress) if link.peer_elsewhere && !link.uplink => Program::EthernetToPeer,
        _ => Program::Ethernet,
    }
}

enum Attached {
    Tcx(TcxLink),
    Clsact(Filter),
}

struct Attachment {
    link: Link,
    program: Program,
    attached: Attached,
}

/// Interfaces that shall have the program, and no others, each with the one that it needs. Made where programs are loaded.
pub struct Plan {
    links: Vec<(Link, Program)>,
    programs: HashMap<Program, OwnedFd>,
    /// Of those whose program does not load.
    errors: Vec<AttachError>,
}

impl Plan {
    /// Loads what is not loaded yet.
    #[must_use]
    pub fn new(datapath: &Datapath, links: &[Link], direction: Direction) -> Self {
        let mut plan = Self { links: Vec::new(), programs: HashMap::new(), errors: Vec::new() };
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
            let fd = datapath.program(program)?.try_clone_to_owned();
            entry.insert(fd.map_err(|e| LoadError::Other(e.to_string()))?);
        }
        Ok(())
    }
}

/// What [`Attachments::reconcile`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The program is on this interface from now on.
    Attached(String),
    /// It is not any more; or the interface is gone.
    Detached(String),
    /// The interface is called otherwise.
    Renamed(String, String),
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached(name) => write!(f, "{name}: attached"),
            Self::Detached(name) => write!(f, "{name}: detached"),
            Self::Renamed(old, new) => write!(f, "{old}: is called {new} now"),
        }
    }
}

/// What a pass over the interfaces did, and what it could not do.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In order.
    pub done: Vec<Done>,
    /// Interfaces that have no program.
    pub errors: Vec<AttachError>,
}

/// The program on interfaces. Dropping this detaches it everywhere.
pub struct Attachments {
    hook: Hook,
    direction: Direction,
    /// By ifindex.
    by_index: BTreeMap<u32, Attachment>,
    /// Behind the filters: they go first.
    alive: Alive,
}

impl Attachments {
    /// Nothing attached yet.
    #[must_use]
    pub fn new(hook: Hook, direction: Direction) -> Self {
        Self { hook, direction, by_index: BTreeMap::new(), alive: Alive::default() }
    }

    /// The interfaces that have the program.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values().map(|a| &a.link)
    }

    /// Makes it as planned. The kernel makes one change of interfaces at a time (RTNL): while it takes a hundred of them away
    /// this waits for seconds, so it is no work for a thread that has to go on.
    pub fn reconcile(&mut self, plan: Plan) -> Outcome {
        let mut outcome = Outcome { done: Vec::new(), errors: plan.errors };
        self.by_index.retain(|ifindex, attachment| {
            // An interface that was made again under its old number has neither; others may take a filter away. One that can't
            // be asked for is not gone for that.
            let alive = match &attachment.attached {
                Attached::Tcx(link) => link.is_alive(),
                Attached::Clsact(filter) => filter.is_there().unwrap_or(true),
            };
            let keep = alive && plan.links.iter().any(|(l, _)| l.ifindex == *ifindex);
            if !keep {
                outcome.done.push(Done::Detached(attachment.link.name.clone()));
            }
            keep
        });
        for (link, program) in plan.links {
            match self.ensure(link, program, plan.programs[&program].as_fd()) {
                Ok(done) => outcome.done.extend(done),
                Err(e) => outcome.errors.push(e),
            }
        }
        outcome
    }

    fn ensure(&mut self, link: Link, program: Program, fd: BorrowedFd<'_>) -> Result<Option<Done>, AttachError> {
        let explain = |e| explain(self.hook, self.direction, &link, e);
        if let Hook::Clsact { .. } = self.hook {
            self.alive.say(fd).map_err(explain)?;
        }
        if let Some(attachment) = self.by_index.get_mut(&link.ifindex) {
            if attachment.program != program {
                let updated = match &mut attachment.attached {
                    Attached::Tcx(tcx) => tcx.update(fd),
                    Attached::Clsact(filter) => filter.update(fd),
                };
                if let Err(e) = updated {
                    // The wrong program may drop what it should hand on.
                    self.by_index.remove(&link.ifindex);
                    return Err(explain(e));
                }
                attachment.program = program;
            }
            let name = link.name.clone();
            let old = std::mem::replace(&mut attachment.link, link);
            return Ok((old.name != name).then_some(Done::Renamed(old.name, name)));
        }
        let attached = match self.hook {
            Hook::Tcx => TcxLink::attach(fd, link.ifindex, self.direction).map(Attached::Tcx),
            Hook::Clsact { priority, handle } => {
                Filter::attach(fd, link.ifindex, self.direction, priority, handle).map(Attached::Clsact)
            }
        };
        let attached = match attached {
            Ok(attached) => attached,
            // It went in the meantime.
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            Err(e) => return Err(explain(e)),
        };
        let name = link.name.clone();
        self.by_index.insert(link.ifindex, Attachment { link, program, attached });
        Ok(Some(Done::Attached(name)))
    }
}

fn explain(hook: Hook, direction: Direction, link: &Link, source: io::Error) -> AttachError {
    let name = link.name.clone();
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
