//! Attaches the program to interfaces: by a tcx link where the kernel has that (6.6), which goes when the daemon does; else
//! by a filter on the clsact qdisc, which stays until somebody takes it away.

mod clsact;
mod tcx;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use super::interfaces::{Header, Link};
use super::load::Programs;
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
    pub fn detect(programs: &Programs<'_>, priority: u16) -> Self {
        if tcx::is_supported(programs.eth) { Self::Tcx } else { Self::Clsact { priority } }
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

/// Which of the programs an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Ethernet,
    EthernetToPeer,
    Ip,
}

impl Variant {
    fn of(link: &Link, direction: Direction) -> Self {
        match (link.header, direction) {
            (Header::None, _) => Self::Ip,
            (_, Direction::Ingress) if link.peer_elsewhere => Self::EthernetToPeer,
            _ => Self::Ethernet,
        }
    }

    const fn program<'a>(self, programs: &Programs<'a>) -> BorrowedFd<'a> {
        match self {
            Self::Ethernet => programs.eth,
            Self::EthernetToPeer => programs.eth_peer,
            Self::Ip => programs.ip,
        }
    }
}

enum Attached {
    Tcx(TcxLink),
    Clsact(Filter),
}

struct Attachment {
    name: String,
    variant: Variant,
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
    pub fn reconcile(&mut self, programs: &Programs<'_>, links: &[Link]) -> Outcome {
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
            match self.ensure(programs, link) {
                Ok(done) => outcome.done.extend(done),
                Err(e) => outcome.errors.push(self.explain(link, e)),
            }
        }
        outcome
    }

    fn ensure(&mut self, programs: &Programs<'_>, link: &Link) -> io::Result<Option<Done>> {
        let variant = Variant::of(link, self.direction);
        let program = variant.program(programs);
        if let Some(attachment) = self.by_index.get_mut(&link.ifindex) {
            if attachment.variant != variant {
                match &mut attachment.attached {
                    Attached::Tcx(tcx) => tcx.update(program)?,
                    Attached::Clsact(filter) => filter.update(program)?,
                }
                attachment.variant = variant;
            }
            if attachment.name == link.name {
                return Ok(None);
            }
            let old = std::mem::replace(&mut attachment.name, link.name.clone());
            return Ok(Some(Done::Renamed(old, link.name.clone())));
        }
        let attached = match self.hook {
            Hook::Tcx => Attached::Tcx(TcxLink::attach(program, link.ifindex, self.direction)?),
            Hook::Clsact { priority } => {
                Attached::Clsact(Filter::attach(program, link.ifindex, self.direction, priority)?)
            }
        };
        self.by_index.insert(link.ifindex, Attachment { name: link.name.clone(), variant, attached });
        Ok(Some(Done::Attached(link.name.clone())))
    }

    fn explain(&self, link: &Link, source: io::Error) -> AttachError {
        let name = link.name.clone();
        match (self.hook, source.raw_os_error()) {
            (_, Some(libc::EPERM | libc::EACCES)) => AttachError::Permission { name },
            // A filter of another kind or protocol has the priority.
            (Hook::Clsact { priority }, Some(libc::EINVAL | libc::EEXIST)) => {
                let direction = match self.direction {
                    Direction::Ingress => "ingress",
                    Direction::Egress => "egress",
                };
                AttachError::Taken { name, direction, priority, source }
            }
            _ => AttachError::Other { name, source },
        }
    }
}
