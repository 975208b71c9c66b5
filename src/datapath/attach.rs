//! Attaches the program to interfaces: by a tcx link where the kernel has that (6.6), which goes when the daemon does; else
//! by a filter on the clsact qdisc, which stays until somebody takes it away.

mod clsact;
mod tcx;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use super::interfaces::{Header, Link};
use super::load::{Datapath, LoadError, Program};
use clsact::Filter;
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
    link: Link,
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

    /// What they are called.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.links().map(|l| l.name.clone()).collect()
    }

    /// The interfaces that have the program.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values().map(|a| &a.link)
    }

    /// Puts the program on `links` and takes it off all others.
    pub fn reconcile(&mut self, datapath: &Datapath, links: &[Link]) -> Outcome {
        let mut outcome = Outcome::default();
        self.by_index.retain(|ifindex, attachment| {
            // An interface that was made again under its old number has neither; others may take a filter away.
            let alive = match &attachment.attached {
                Attached::Tcx(link) => link.is_alive(),
                Attached::Clsact(filter) => filter.is_there(),
            };
            let keep = alive && links.iter().any(|l| l.ifindex == *ifindex);
            if !keep {
                outcome.done.push(Done::Detached(attachment.link.name.clone()));
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
                if let Err(e) = updated {
                    // The wrong program may drop what it should hand on.
                    self.by_index.remove(&link.ifindex);
                    return Err(explain(e));
                }
                attachment.program = program;
            }
            let old = std::mem::replace(&mut attachment.link, link.clone());
            return Ok((old.name != link.name).then(|| Done::Renamed(old.name, link.name.clone())));
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
        self.by_index.insert(link.ifindex, Attachment { link: link.clone(), program, attached });
        Ok(Some(Done::Attached(link.name.clone())))
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
