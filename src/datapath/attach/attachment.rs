//! The program's attachment to one interface: attach, move to the front, notice a removal, attach again.

use std::io;
use std::time::Instant;

use super::clsact::{OurFilter, Position, Site};
use super::filters::Filters;
use super::liveness::is_alive;
use super::rate::{Moves, ReattachBackoff};
use super::tcx::{self, TcxLink};
use super::{AttachChange, Direction, Hook, Loaded, Predecessor};
use crate::interfaces::Link;

/// The state that all interfaces share in one check.
pub(super) struct Round {
    pub hook: Hook,
    pub direction: Direction,
    pub now: Instant,
    /// The netlink connection; None for tcx.
    pub filters: Option<io::Result<Filters>>,
}

impl Round {
    pub(super) fn new(hook: Hook, direction: Direction) -> Self {
        let filters = matches!(hook, Hook::Clsact { .. }).then(Filters::open);
        Self { hook, direction, now: Instant::now(), filters }
    }

    /// The netlink connection, or why it could not be opened.
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

/// Whether the interface has the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Attached,
    /// A running daemon of this config replaced it and keeps it.
    Replaced,
    /// It was removed; it is attached again at this time.
    Removed(Instant),
}

/// The program's attachment to one interface.
pub(super) struct Attachment {
    pub link: Link,
    /// The program that the interface needs.
    wanted: Loaded,
    /// ID of the program that it has.
    running: u32,
    presence: Presence,
    attached: Option<Attached>,
    backoff: ReattachBackoff,
    moves: Moves,
    in_front: Vec<Predecessor>,
    /// When it may next be moved to the front; None if it is first, or no handle is free.
    move_at: Option<Instant>,
    /// Whether [`AttachChange::NotFirst`] was reported.
    is_reported: bool,
}

impl Attachment {
    /// An interface without the program; [`Self::check`] attaches it.
    pub(super) fn new(round: &Round, link: Link, wanted: Loaded) -> Self {
        Self {
            link,
            running: wanted.id(),
            wanted,
            presence: Presence::Removed(round.now),
            attached: None,
            backoff: ReattachBackoff::default(),
            moves: Moves::default(),
            in_front: Vec::new(),
            move_at: None,
            is_reported: false,
        }
    }

    /// ID of the program that the interface needs.
    pub(super) const fn wanted(&self) -> u32 {
        self.wanted.id()
    }

    /// Whether the interface has the program.
    pub(super) fn is_attached(&self) -> bool {
        self.presence == Presence::Attached
    }

    /// Whether the program was removed and waits to be attached again.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.presence, Presence::Removed(_))
    }

    /// Programs of other owners that run before ours and may end the chain.
    pub(super) fn in_front(&self) -> &[Predecessor] {
        &self.in_front
    }

    /// Time of the next timed check; None if only messages cause checks.
    pub(super) const fn due(&self) -> Option<Instant> {
        match self.presence {
            Presence::Attached => self.move_at,
            Presence::Removed(attach_at) => Some(attach_at),
            Presence::Replaced => None,
        }
    }

    /// Sets the properties of the interface and the program that it needs.
    pub(super) fn set_wanted(&mut self, link: Link, wanted: Loaded, changes: &mut Vec<AttachChange>) {
        let old = std::mem::replace(&mut self.link, link);
        if old.name != self.link.name {
            changes.push(AttachChange::Renamed(old.name, self.link.name.clone()));
        }
        self.wanted = wanted;
    }

    /// Makes sure that the wanted program is attached and first in the chain.
    pub(super) fn check(&mut self, round: &Round, changes: &mut Vec<AttachChange>) -> io::Result<()> {
        self.update(round, changes);
        if matches!(self.presence, Presence::Removed(attach_at) if attach_at <= round.now) {
            self.attach(round)?;
            changes.push(AttachChange::Attached(self.link.name.clone()));
            self.update(round, changes);
        }
        if self.is_attached() && self.running != self.wanted.id() {
            match &mut self.attached {
                Some(Attached::Tcx(link)) => link.update(self.wanted.fd())?,
                Some(Attached::Clsact(filter)) => filter.update(round.filters()?, self.wanted.clone())?,
                None => {}
            }
            self.running = self.wanted.id();
        }
        self.report_position(round, changes);
        Ok(())
    }

    /// Reads the program's position in the chain. After an error the last known position stays.
    fn update(&mut self, round: &Round, changes: &mut Vec<AttachChange>) {
        let position = match (&mut self.attached, &round.filters) {
            (Some(Attached::Tcx(link)), _) if !link.is_alive() => Ok(Position::Removed),
            (Some(Attached::Tcx(_)), _) => tcx::programs(self.link.ifindex, round.direction).map(|ids| {
                Position::Attached { in_front: in_front(&ids, self.running), overtaken: Vec::new(), move_at: None }
            }),
            (Some(Attached::Clsact(filter)), Some(Ok(filters))) => filter.check(filters, &mut self.moves, round.now),
            _ => return,
        };
        let position = match position {
            Ok(position) => position,
            Err(e) => return log::warn!("{}: reading its chain of programs: {e}", self.link.name),
        };
        let name = || self.link.name.clone();
        match position {
            Position::Attached { in_front, overtaken, move_at } => {
                if self.presence == Presence::Replaced {
                    changes.push(AttachChange::Attached(name()));
                }
                if !overtaken.is_empty() {
                    changes.push(AttachChange::Moved(name(), overtaken));
                }
                self.presence = Presence::Attached;
                (self.in_front, self.move_at) = (in_front, move_at);
            }
            Position::Replaced => {
                if self.presence != Presence::Replaced {
                    changes.push(AttachChange::Replaced(name()));
                }
                self.presence = Presence::Replaced;
                self.in_front.clear();
            }
            Position::Removed => {
                if self.presence != Presence::Replaced {
                    changes.push(AttachChange::Detached(name()));
                }
                self.presence = Presence::Removed(self.backoff.removed(round.now));
                self.attached = None;
                self.in_front.clear();
            }
        }
    }

    fn attach(&mut self, round: &Round) -> io::Result<()> {
        let (ifindex, direction) = (self.link.ifindex, round.direction);
        self.attached = Some(match round.hook {
            Hook::Tcx => Attached::Tcx(TcxLink::attach(self.wanted.fd(), ifindex, direction)?),
            Hook::Clsact { priority, handle } => {
                let site = Site { ifindex, direction, priority, handle };
                Attached::Clsact(OurFilter::attach(round.filters()?, site, self.wanted.clone())?)
            }
        });
        self.running = self.wanted.id();
        self.presence = Presence::Attached;
        self.backoff.attached(round.now);
        Ok(())
    }

    /// Reports once that the program is not first, and once that it is first again and was not moved for a minute.
    fn report_position(&mut self, round: &Round, changes: &mut Vec<AttachChange>) {
        if self.in_front.is_empty() {
            if self.is_reported && self.is_attached() && self.moves.is_calm(round.now) {
                self.is_reported = false;
                changes.push(AttachChange::First(self.link.name.clone()));
            }
        } else if !self.is_reported {
            self.is_reported = true;
            changes.push(AttachChange::NotFirst(self.link.name.clone(), self.in_front.clone()));
        }
    }
}

/// The programs that run before ours, in order, without those of other eDNS daemons.
fn in_front(ids: &[u32], ours: u32) -> Vec<Predecessor> {
    let position = ids.iter().position(|id| *id == ours).unwrap_or_default();
    let before = ids[..position].iter().filter(|id| !is_alive(**id));
    before.map(|id| Predecessor { id: Some(*id), name: None, priority: None }).collect()
}
