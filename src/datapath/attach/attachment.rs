//! The program on one interface: as it comes, is moved, is taken away by others and returns.

use std::io;
use std::time::Instant;

use super::alive::is_alive;
use super::clsact::{Look, OurFilter, Site};
use super::filters::Filters;
use super::pace::{Moves, Returns};
use super::tcx::{self, TcxLink};
use super::{Direction, Done, Hook, InFront, Loaded};
use crate::interfaces::Link;

/// One look at all interfaces.
pub(super) struct Pass {
    pub hook: Hook,
    pub direction: Direction,
    pub now: Instant,
    /// On clsact.
    pub filters: Option<io::Result<Filters>>,
}

impl Pass {
    pub(super) fn new(hook: Hook, direction: Direction) -> Self {
        let filters = matches!(hook, Hook::Clsact { .. }).then(Filters::open);
        Self { hook, direction, now: Instant::now(), filters }
    }

    /// For what can't be done without.
    fn filters(&self) -> io::Result<&Filters> {
        match &self.filters {
            Some(Ok(filters)) => Ok(filters),
            Some(Err(e)) => Err(e.raw_os_error().map_or_else(|| e.kind().into(), io::Error::from_raw_os_error)),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

enum Attached {
    Tcx(TcxLink),
    Clsact(OurFilter),
}

/// How it stands with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    /// A living daemon of this config took its place, and is let be.
    Replaced,
    /// Somebody took it away; it may return then.
    Gone(Instant),
}

/// The program on an interface.
pub(super) struct Attachment {
    pub link: Link,
    /// What the interface needs…
    wanted: Loaded,
    /// …and what it has, by number.
    running: u32,
    state: Presence,
    attached: Option<Attached>,
    returns: Returns,
    moves: Moves,
    in_front: Vec<InFront>,
    /// When it is moved to the front again, where it may not be now.
    again: Option<Instant>,
    /// Whether it was said that it is not first.
    is_named: bool,
}

impl Attachment {
    /// Not attached yet: [`Self::look`] does that.
    pub(super) fn new(pass: &Pass, link: Link, wanted: Loaded) -> Self {
        Self {
            link,
            running: wanted.id(),
            wanted,
            state: Presence::Gone(pass.now),
            attached: None,
            returns: Returns::default(),
            moves: Moves::default(),
            in_front: Vec::new(),
            again: None,
            is_named: false,
        }
    }

    /// The program that the interface needs, by number.
    pub(super) const fn wanted(&self) -> u32 {
        self.wanted.id()
    }

    /// Whether the interface has the program.
    pub(super) fn is_there(&self) -> bool {
        self.state == Presence::There
    }

    /// Whether somebody took it away, and it waits to return.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.state, Presence::Gone(_))
    }

    /// Programs that run before ours and may end the chain.
    pub(super) fn in_front(&self) -> &[InFront] {
        &self.in_front
    }

    /// When something is to be done that no message tells.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.state {
            Presence::There => self.again,
            Presence::Gone(back) => Some(back),
            Presence::Replaced => None,
        }
    }

    /// The interface has changed, or needs another program.
    pub(super) fn follow(&mut self, link: Link, wanted: Loaded, done: &mut Vec<Done>) {
        let old = std::mem::replace(&mut self.link, link);
        if old.name != self.link.name {
            done.push(Done::Renamed(old.name, self.link.name.clone()));
        }
        self.wanted = wanted;
    }

    /// Sees to it that it is there, in front, and the one that is wanted.
    pub(super) fn look(&mut self, pass: &Pass, done: &mut Vec<Done>) -> io::Result<()> {
        self.examine(pass, done);
        if matches!(self.state, Presence::Gone(back) if back <= pass.now) {
            self.attach(pass)?;
            done.push(Done::Attached(self.link.name.clone()));
            self.examine(pass, done);
        }
        if self.state == Presence::There && self.running != self.wanted.id() {
            match &mut self.attached {
                Some(Attached::Tcx(link)) => link.update(self.wanted.fd())?,
                Some(Attached::Clsact(filter)) => filter.update(pass.filters()?, self.wanted.clone())?,
                None => {}
            }
            self.running = self.wanted.id();
        }
        self.name_place(pass, done);
        Ok(())
    }

    /// Takes note of where it is. What can't be asked for stays as it was: it is not gone for that.
    fn examine(&mut self, pass: &Pass, done: &mut Vec<Done>) {
        let look =
            match (&mut self.attached, &pass.filters) {
                (Some(Attached::Tcx(link)), _) if !link.is_alive() => Ok(Look::Gone),
                (Some(Attached::Tcx(_)), _) => tcx::programs(self.link.ifindex, pass.direction)
                    .map(|ids| Look::There { in_front: in_front(&ids, self.running), passed: Vec::new(), again: None }),
                (Some(Attached::Clsact(filter)), Some(Ok(filters))) => filter.look(filters, &mut self.moves, pass.now),
                _ => return,
            };
        let look = match look {
            Ok(look) => look,
            Err(e) => return log::warn!("{}: looking at its chain: {e}", self.link.name),
        };
        let name = || self.link.name.clone();
        match look {
            Look::There { in_front, passed, again } => {
                if self.state == Presence::Replaced {
                    done.push(Done::Attached(name()));
                }
                if !passed.is_empty() {
                    done.push(Done::Moved(name(), passed));
                }
                self.state = Presence::There;
                (self.in_front, self.again) = (in_front, again);
            }
            Look::Replaced => {
                if self.state != Presence::Replaced {
                    done.push(Done::Replaced(name()));
                }
                self.state = Presence::Replaced;
                self.in_front.clear();
            }
            Look::Gone => {
                if self.state != Presence::Replaced {
                    done.push(Done::Detached(name()));
                }
                self.state = Presence::Gone(self.returns.taken(pass.now));
                self.attached = None;
                self.in_front.clear();
            }
        }
    }

    fn attach(&mut self, pass: &Pass) -> io::Result<()> {
        let (ifindex, direction) = (self.link.ifindex, pass.direction);
        self.attached = Some(match pass.hook {
            Hook::Tcx => Attached::Tcx(TcxLink::attach(self.wanted.fd(), ifindex, direction)?),
            Hook::Clsact { priority, handle } => {
                let site = Site { ifindex, direction, priority, handle };
                Attached::Clsact(OurFilter::attach(pass.filters()?, site, self.wanted.clone())?)
            }
        });
        self.running = self.wanted.id();
        self.state = Presence::There;
        self.returns.returned(pass.now);
        Ok(())
    }

    /// Says once that it is not first, and that it is again where nobody contends for that any more.
    fn name_place(&mut self, pass: &Pass, done: &mut Vec<Done>) {
        if self.in_front.is_empty() {
            if self.is_named && self.is_there() && self.moves.is_calm(pass.now) {
                self.is_named = false;
                done.push(Done::First(self.link.name.clone()));
            }
        } else if !self.is_named {
            self.is_named = true;
            done.push(Done::NotFirst(self.link.name.clone(), self.in_front.clone()));
        }
    }
}

/// Those of the programs, in order, that run before ours and are not another eDNS.
fn in_front(ids: &[u32], ours: u32) -> Vec<InFront> {
    let place = ids.iter().position(|id| *id == ours).unwrap_or_default();
    let before = ids[..place].iter().filter(|id| !is_alive(**id));
    before.map(|id| InFront { id: Some(*id), name: None, priority: None }).collect()
}
