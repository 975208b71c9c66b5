//! Attaches the program to interfaces: by a tcx link where the kernel has that (6.6), which goes when the daemon does; else
//! by a filter on the clsact qdisc, which stays until somebody takes it away.

mod clsact;
mod tcx;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use super::interfaces::{Header, Link};
use super::load::{Datapath, LoadError, Program};
use crate::config::Direction;
use clsact::Filter;
use tcx::TcxLink;

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// A BPF link at the front of the interface's chain.
    Tcx,
    /// A filter of this priority.
    Clsact {
        /// From 1 on; lower ones go first.
        priority: u16,
    },
}

impl Hook {
    /// tcx where the kernel has it.
    #[must_use]
    pub fn detect(datapath: &Datapath, priority: u16) -> Self {
        if tcx::is_supported(datapath.any_program()) { Self::Tcx } else { Self::Clsact { priority } }
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
        (_, Direction::Ingress) if link.peer_elsewhere => Program::EthernetToPeer,
        _ => Program::Ethernet,
    }
}

enum Attached {
    Tcx(TcxLink),
    Clsact(Filter),
}

struct Attachment {
    name: String,
    program: Program,
    attached: Attached,
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
}

impl Attachments {
    /// Nothing attached yet.
    #[must_use]
    pub const fn new(hook: Hook, direction: Direction) -> Self {
        Self { hook, direction, by_index: BTreeMap::new() }
    }

    /// The interfaces that have the program.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.by_index.values().map(|a| a.name.clone()).collect()
    }

    /// Puts the program on `links` and takes it off all others.
    pub fn reconcile(&mut self, datapath: &Datapath, links: &[Link]) -> Outcome {
        let mut outcome = Outcome::default();
        self.by_index.retain(|ifindex, attachment| {
            let alive = match &attachment.attached {
                // An interface that was made again under its old number has no link.
                Attached::Tcx(link) => link.is_alive(),
                Attached::Clsact(_) => true,
            };
            let keep = alive && links.iter().any(|l| l.ifindex == *ifindex);
            if !keep {
                outcome.done.push(Done::Detached(attachment.name.clone()));
            }
            keep
        });
        for link in links {
            match self.ensure(datapath, link) {
                Ok(done) => outcome.done.extend(done),
                Err(e) => outcome.errors.push(e),
            }
        }
        outcome
    }

    fn ensure(&mut self, datapath: &Datapath, link: &Link) -> Result<Option<Done>, AttachError> {
        let program = program_for(link, self.direction);
        let fd = datapath.program(program).map_err(|source| AttachError::Load { name: link.name.clone(), source })?;
        let explain = |e| explain(self.hook, self.direction, link, e);
        if let Some(attachment) = self.by_index.get_mut(&link.ifindex) {
            if attachment.program != program {
                let updated = match &mut attachment.attached {
                    Attached::Tcx(tcx) => tcx.update(fd),
                    Attached::Clsact(filter) => filter.update(fd),
                };
                updated.map_err(explain)?;
                attachment.program = program;
            }
            if attachment.name == link.name {
                return Ok(None);
            }
            let old = std::mem::replace(&mut attachment.name, link.name.clone());
            return Ok(Some(Done::Renamed(old, link.name.clone())));
        }
        let attached = match self.hook {
            Hook::Tcx => TcxLink::attach(fd, link.ifindex, self.direction).map(Attached::Tcx),
            Hook::Clsact { priority } => {
                Filter::attach(fd, link.ifindex, self.direction, priority).map(Attached::Clsact)
            }
        };
        let attached = attached.map_err(explain)?;
        self.by_index.insert(link.ifindex, Attachment { name: link.name.clone(), program, attached });
        Ok(Some(Done::Attached(link.name.clone())))
    }
}

fn explain(hook: Hook, direction: Direction, link: &Link, source: io::Error) -> AttachError {
    let name = link.name.clone();
    match (hook, source.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => AttachError::Permission { name },
        // A filter of another kind or protocol has the priority.
        (Hook::Clsact { priority }, Some(libc::EINVAL | libc::EEXIST)) => {
            let direction = match direction {
                Direction::Ingress => "ingress",
                Direction::Egress => "egress",
            };
            AttachError::Taken { name, direction, priority, source }
        }
        _ => AttachError::Other { name, source },
    }
}
