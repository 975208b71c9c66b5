//! Filters on the clsact qdisc, for kernels without tcx.
//!
//! The kernel runs filters of one priority newest first, and a replaced filter keeps its position. So ours moves to the front
//! by adding a second filter and then deleting the first: one of them is always attached.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Instant;

use super::filters::{Filter, Filters};
use super::liveness::is_alive;
use super::rate::Moves;
use super::stale;
use super::{Direction, Loaded, Predecessor};
use crate::datapath::sys;

/// The interface has a qdisc of kind `ingress`, so that it can't have clsact. That qdisc has one block: egress filters would land
/// there and run on received packets.
#[derive(Debug, thiserror::Error)]
#[error("its qdisc is of kind ingress")]
pub(super) struct NoEgress;

pub(super) fn is_no_egress(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<NoEgress>())
}

/// Attempts to attach while another process keeps deleting the qdisc.
const TRIES: usize = 3;
/// The bits in which the handles of a config differ. Two bits: 2 daemons during a takeover, each with 2 handles during a move.
const HANDLE_BITS: u32 = 0b11 << 30;

/// All handles of the config that has this one.
fn handles(handle: u32) -> impl Iterator<Item = u32> {
    // The kernel takes 0 as "no handle".
    (0..4).map(move |i| handle ^ (i << 30)).filter(|h| *h != 0)
}

/// Whether a filter's handle is one of the config that has this handle.
pub(super) fn is_of_config(filter: &Filter, handle: u32) -> bool {
    (filter.handle() ^ handle) & !HANDLE_BITS == 0
}

/// The position of our filters: interface, direction and priority.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub ifindex: u32,
    pub direction: Direction,
    pub priority: u16,
    /// One of the config's handles.
    pub handle: u32,
}

impl Site {
    /// Creates the clsact qdisc if the interface has none. It is never deleted: other programs may use it, too.
    fn make_qdisc(&self) -> io::Result<()> {
        let mut hook = self.hook();
        match sys::tc_hook_create(&mut hook) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            made => made,
        }
    }

    /// Errors with [`NoEgress`] if filters for egress would run on ingress.
    fn check_direction(&self, filters: &Filters) -> io::Result<()> {
        if self.direction == Direction::Egress && filters.qdisc(self.ifindex)?.is_some_and(|kind| kind != "clsact") {
            return Err(io::Error::other(NoEgress));
        }
        Ok(())
    }

    /// Attaches a program by the filter with this handle: a new filter is added at the front; BPF_TC_F_REPLACE in `flags`
    /// replaces an existing one in place.
    fn attach(&self, filters: &Filters, loaded: &Loaded, handle: u32, flags: u32) -> io::Result<()> {
        self.add_filter(loaded.fd(), handle, flags)?;
        // Checked after attaching: the qdisc could change its kind between a check and the attachment.
        self.check_direction(filters).inspect_err(|_| {
            if let Err(e) = self.delete_filter(filters, loaded, handle) {
                log::warn!("interface {}: deleting the tc filter: {e}", self.ifindex);
            }
        })
    }

    /// Deletes filters that killed daemons left.
    fn delete_stale<'a>(&self, filters: &Filters, stale: impl IntoIterator<Item = &'a Filter>) {
        for filter in stale {
            if let Err(e) = filters.delete(filter) {
                log::warn!("interface {}: deleting a stale tc filter: {e}", self.ifindex);
            }
        }
    }

    /// Deletes the filter with this handle if it runs this program.
    fn delete_filter(&self, filters: &Filters, loaded: &Loaded, handle: u32) -> io::Result<()> {
        let chain = filters.list(self.ifindex, self.direction)?;
        let is_match = |f: &&Filter| f.handle() == handle && f.program_id() == Some(loaded.id());
        chain.iter().filter(is_match).try_for_each(|f| filters.delete(f))
    }

    fn add_filter(&self, program: BorrowedFd<'_>, handle: u32, flags: u32) -> io::Result<()> {
        let hook = self.hook();
        let mut opts = libbpf_sys::bpf_tc_opts {
            sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
            prog_fd: program.as_raw_fd(),
            handle,
            priority: u32::from(self.priority),
            flags,
            ..Default::default()
        };
        sys::tc_attach(&hook, &mut opts)
    }

    /// Attaches a program by a new filter, at the front of those of our priority. Returns its handle; None if all handles of
    /// this config are in use.
    fn attach_new(&self, filters: &Filters, loaded: &Loaded, chain: &[Filter]) -> io::Result<Option<u32>> {
        let is_free = |handle: &u32| !chain.iter().any(|f| f.priority() == self.priority && f.handle() == *handle);
        for handle in handles(self.handle).filter(is_free) {
            match self.attach(filters, loaded, handle, 0) {
                // Another daemon took the handle in between.
                Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
                done => return done.map(|()| Some(handle)),
            }
        }
        Ok(None)
    }

    fn hook(&self) -> libbpf_sys::bpf_tc_hook {
        libbpf_sys::bpf_tc_hook {
            sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
            ifindex: self.ifindex as i32,
            attach_point: match self.direction {
                Direction::Ingress => libbpf_sys::BPF_TC_INGRESS,
                Direction::Egress => libbpf_sys::BPF_TC_EGRESS,
            },
            ..Default::default()
        }
    }
}

/// The program's position in the chain, as a check found or made it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// It is attached.
    Attached {
        /// Programs of other owners that run before it.
        in_front: Vec<Predecessor>,
        /// Programs of other owners that this check moved it in front of.
        overtaken: Vec<Predecessor>,
        /// When it may be moved to the front; None if it need not or can't be moved.
        move_at: Option<Instant>,
    },
    /// A running daemon of this config replaced its program in place.
    Replaced,
    /// Another process deleted it, or the qdisc.
    Removed,
}

/// Our filter. Dropping this deletes it, unless another daemon has taken it over.
pub(super) struct OurFilter {
    site: Site,
    handle: u32,
    loaded: Loaded,
}

impl OurFilter {
    /// Attaches the program at the front of the filters of its priority. Deletes stale filters of this config.
    pub(super) fn attach(filters: &Filters, site: Site, loaded: Loaded) -> io::Result<Self> {
        let mut tries = 0..TRIES;
        loop {
            match Self::try_attach(filters, site, &loaded) {
                // EINVAL: the qdisc was deleted in between, or a filter of another kind has the priority.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && tries.next().is_some() => {}
                done => return done,
            }
        }
    }

    fn try_attach(filters: &Filters, site: Site, loaded: &Loaded) -> io::Result<Self> {
        site.make_qdisc()?;
        site.check_direction(filters)?;
        let chain = filters.list(site.ifindex, site.direction)?;
        let mut stale: Vec<&Filter> = chain.iter().filter(|f| stale::is_stale(f, site.handle)).collect();
        let handle = match site.attach_new(filters, loaded, &chain)? {
            Some(handle) => handle,
            None => {
                let reused = stale.iter().position(|f| f.priority() == site.priority);
                let in_use =
                    || io::Error::other("no free filter handle: two or more daemons of this config run; stop one");
                let handle = stale.remove(reused.ok_or_else(in_use)?).handle();
                site.attach(filters, loaded, handle, libbpf_sys::BPF_TC_F_REPLACE)?;
                handle
            }
        };
        site.delete_stale(filters, stale);
        Ok(Self { site, handle, loaded: loaded.clone() })
    }

    /// Replaces the program atomically: every packet meets the old or the new one.
    pub(super) fn update(&mut self, filters: &Filters, loaded: Loaded) -> io::Result<()> {
        self.site.attach(filters, &loaded, self.handle, libbpf_sys::BPF_TC_F_REPLACE)?;
        self.loaded = loaded;
        Ok(())
    }

    /// Finds the filter in the chain, and moves it to the front of its priority. Deletes the filters of daemons that were killed
    /// since ours was attached.
    pub(super) fn check(&mut self, filters: &Filters, moves: &mut Moves, now: Instant) -> io::Result<Position> {
        let chain = filters.list(self.site.ifindex, self.site.direction)?;
        let is_stale = |f: &Filter| !self.is_ours(f) && stale::is_stale(f, self.site.handle);
        let (stale, chain): (Vec<_>, Vec<_>) = chain.into_iter().partition(is_stale);
        self.site.delete_stale(filters, &stale);
        let ours: Vec<usize> = (0..chain.len()).filter(|at| self.is_ours(&chain[*at])).collect();
        let Some((&at, duplicates)) = ours.split_first() else {
            let replaced = |f: &Filter| f.priority() == self.site.priority && f.handle() == self.handle && is_edns(f);
            return Ok(if chain.iter().any(replaced) { Position::Replaced } else { Position::Removed });
        };
        self.handle = chain[at].handle();
        // Left by an interrupted move.
        for duplicate in duplicates {
            filters.delete(&chain[*duplicate])?;
        }
        let others = chain[..at].iter().filter(|f| !is_edns(f));
        let (same_priority, earlier): (Vec<_>, Vec<_>) = others.partition(|f| f.priority() == self.site.priority);
        let may_move = moves.may_move(now);
        if !same_priority.is_empty() && may_move {
            match self.site.attach_new(filters, &self.loaded, &chain) {
                Ok(Some(handle)) => {
                    moves.moved(now);
                    self.handle = handle;
                    filters.delete(&chain[at])?;
                    let (in_front, overtaken) = (in_front(&earlier), in_front(&same_priority));
                    return Ok(Position::Attached { in_front, overtaken, move_at: None });
                }
                // No handle is free until another daemon of this config ends: it can't be moved.
                Ok(None) => {}
                // The qdisc was deleted in between.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) || is_no_egress(&e) => return Ok(Position::Removed),
                Err(e) => return Err(e),
            }
        }
        let move_at = if may_move || same_priority.is_empty() { None } else { moves.next() };
        Ok(Position::Attached {
            in_front: in_front(&[earlier, same_priority].concat()),
            overtaken: Vec::new(),
            move_at,
        })
    }

    fn is_ours(&self, filter: &Filter) -> bool {
        is_of_config(filter, self.site.handle) && filter.program_id() == Some(self.loaded.id())
    }

    fn detach(&self) -> io::Result<()> {
        let filters = Filters::open()?;
        let chain = filters.list(self.site.ifindex, self.site.direction)?;
        chain.iter().filter(|f| self.is_ours(f)).try_for_each(|f| filters.delete(f))
    }
}

impl Drop for OurFilter {
    fn drop(&mut self) {
        if let Err(e) = self.detach() {
            log::warn!("interface {}: deleting the tc filter: {e}", self.site.ifindex);
        }
    }
}

/// Whether a filter runs the program of a running eDNS daemon. That program never ends the chain for packets it does not answer.
fn is_edns(filter: &Filter) -> bool {
    stale::has_our_name(filter) && filter.program_id().is_some_and(is_alive)
}

fn in_front(filters: &[&Filter]) -> Vec<Predecessor> {
    let of =
        |f: &&Filter| Predecessor { id: f.program_id(), name: Some(f.name().into()), priority: Some(f.priority()) };
    filters.iter().map(of).collect()
}
