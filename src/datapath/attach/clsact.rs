//! Filters on the clsact qdisc, for kernels without tcx.
//!
//! Filters of one priority run in the order newest first, and one that is replaced keeps its place. So ours is moved to the
//! front by a second filter, after which the first one is taken away: at no moment is there none.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Instant;

use super::alive::is_alive;
use super::filters::{Filter, Filters};
use super::leftovers;
use super::pace::Moves;
use super::{Direction, InFront, Loaded};
use crate::datapath::sys;

/// Where there is a qdisc of kind `ingress`, there can be no clsact. It has one block of filters, in which those for egress
/// land as well, and see what comes in.
#[derive(Debug, thiserror::Error)]
#[error("its qdisc is of kind ingress")]
pub(super) struct NoEgress;

/// Whether it is for that.
pub(super) fn is_no_egress(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<NoEgress>())
}

/// Attempts to attach while somebody takes the qdisc away again and again.
const TRIES: usize = 3;
/// The bits in which a config's handles differ: two handles for each of two daemons, one of which takes over from the other.
const HANDLE_BITS: u32 = 0b11 << 30;

/// Handles of the config that has this one.
fn handles(handle: u32) -> impl Iterator<Item = u32> {
    // 0 is none.
    (0..4).map(move |i| handle ^ (i << 30)).filter(|h| *h != 0)
}

/// Whether a filter is one of the config that has this handle, whichever of its daemons made it.
pub(super) fn is_of_config(filter: &Filter, handle: u32) -> bool {
    (filter.handle() ^ handle) & !HANDLE_BITS == 0
}

/// Where an interface's filters of ours go.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub ifindex: u32,
    pub direction: Direction,
    pub priority: u16,
    /// One of the config's.
    pub handle: u32,
}

impl Site {
    /// Makes the qdisc where there is none; it stays, since others may use it by then.
    fn make_qdisc(&self) -> io::Result<()> {
        let mut hook = self.hook();
        match sys::tc_hook_create(&mut hook) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            made => made,
        }
    }

    /// Whether filters for this direction see that one. Where there is no qdisc there are no filters either.
    fn check_direction(&self, filters: &Filters) -> io::Result<()> {
        if self.direction == Direction::Egress && filters.qdisc(self.ifindex)?.is_some_and(|kind| kind != "clsact") {
            return Err(io::Error::other(NoEgress));
        }
        Ok(())
    }

    /// Runs a program by the filter of this handle: in the place of the one that is there, else by a new one, at the front.
    fn run(&self, filters: &Filters, loaded: &Loaded, handle: u32, flags: u32) -> io::Result<()> {
        self.set(loaded.fd(), handle, flags)?;
        // Only now is it certain what it hangs on: a qdisc keeps its kind, but may be another one than a moment ago.
        self.check_direction(filters).inspect_err(|_| {
            if let Err(e) = self.unset(filters, loaded, handle) {
                log::warn!("interface {}: detaching: {e}", self.ifindex);
            }
        })
    }

    /// Takes away what killed daemons left.
    fn take_away<'a>(&self, filters: &Filters, leftovers: impl IntoIterator<Item = &'a Filter>) {
        for leftover in leftovers {
            if let Err(e) = filters.delete(leftover) {
                log::warn!("interface {}: the filter of a daemon that was killed stays: {e}", self.ifindex);
            }
        }
    }

    /// Takes the filter of this handle away where it runs this program.
    fn unset(&self, filters: &Filters, loaded: &Loaded, handle: u32) -> io::Result<()> {
        let chain = filters.list(self.ifindex, self.direction)?;
        let is_it = |f: &&Filter| f.handle() == handle && f.program_id() == Some(loaded.id());
        chain.iter().filter(is_it).try_for_each(|f| filters.delete(f))
    }

    fn set(&self, program: BorrowedFd<'_>, handle: u32, flags: u32) -> io::Result<()> {
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

    /// Runs a program by a new filter, at the front of those of our priority. Returns its handle; None where no handle of this
    /// config's is free.
    fn add(&self, filters: &Filters, loaded: &Loaded, chain: &[Filter]) -> io::Result<Option<u32>> {
        let is_free = |handle: &u32| !chain.iter().any(|f| f.priority() == self.priority && f.handle() == *handle);
        for handle in handles(self.handle).filter(is_free) {
            match self.run(filters, loaded, handle, 0) {
                // Another daemon was faster.
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

/// What became of our filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is there, at the front but for these.
    There {
        /// Filters of others that run before it.
        in_front: Vec<InFront>,
        /// Filters of others that it was just moved in front of.
        passed: Vec<InFront>,
        /// When it may be moved again, where it may not now and should.
        again: Option<Instant>,
    },
    /// A living daemon of this config runs its program by it: an earlier version, which knows one handle, takes over like that.
    Replaced,
    /// Somebody took it away, or the qdisc.
    Gone,
}

/// A filter that is taken away when this is dropped, unless another daemon has taken it over.
pub(super) struct OurFilter {
    site: Site,
    handle: u32,
    /// Holds on to the program, so that its number is no other's.
    loaded: Loaded,
}

impl OurFilter {
    /// At the front of those of its priority. What killed daemons of this config left there is taken away.
    pub(super) fn attach(filters: &Filters, site: Site, loaded: Loaded) -> io::Result<Self> {
        let mut tries = 0..TRIES;
        loop {
            match Self::try_attach(filters, site, &loaded) {
                // Somebody took the qdisc away in between, unless the priority is that of another kind of filter.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) && tries.next().is_some() => {}
                done => return done,
            }
        }
    }

    fn try_attach(filters: &Filters, site: Site, loaded: &Loaded) -> io::Result<Self> {
        site.make_qdisc()?;
        site.check_direction(filters)?;
        let chain = filters.list(site.ifindex, site.direction)?;
        let mut leftovers: Vec<&Filter> = chain.iter().filter(|f| leftovers::is_leftover(f, site.handle)).collect();
        let handle = match site.add(filters, loaded, &chain)? {
            Some(handle) => handle,
            None => {
                let of_dead = leftovers.iter().position(|f| f.priority() == site.priority);
                let of_dead = of_dead.ok_or_else(|| io::Error::other("daemons of this config have all its handles"))?;
                let handle = leftovers.remove(of_dead).handle();
                site.run(filters, loaded, handle, libbpf_sys::BPF_TC_F_REPLACE)?;
                handle
            }
        };
        site.take_away(filters, leftovers);
        Ok(Self { site, handle, loaded: loaded.clone() })
    }

    /// Runs another program in the place of this one, with no packet in between.
    pub(super) fn update(&mut self, filters: &Filters, loaded: Loaded) -> io::Result<()> {
        self.site.run(filters, &loaded, self.handle, libbpf_sys::BPF_TC_F_REPLACE)?;
        self.loaded = loaded;
        Ok(())
    }

    /// Looks where it is, and moves it to the front of its priority where it is not. What was left by daemons that were killed
    /// since ours was attached is taken away.
    pub(super) fn look(&mut self, filters: &Filters, moves: &mut Moves, now: Instant) -> io::Result<Look> {
        let chain = filters.list(self.site.ifindex, self.site.direction)?;
        let is_leftover = |f: &Filter| !self.is_ours(f) && leftovers::is_leftover(f, self.site.handle);
        let (leftovers, chain): (Vec<_>, Vec<_>) = chain.into_iter().partition(is_leftover);
        self.site.take_away(filters, &leftovers);
        let ours: Vec<usize> = (0..chain.len()).filter(|place| self.is_ours(&chain[*place])).collect();
        let Some((&place, doubles)) = ours.split_first() else {
            let replaced = |f: &Filter| f.priority() == self.site.priority && f.handle() == self.handle && is_edns(f);
            return Ok(if chain.iter().any(replaced) { Look::Replaced } else { Look::Gone });
        };
        self.handle = chain[place].handle();
        // Of a move that did not come to its end.
        for double in doubles {
            filters.delete(&chain[*double])?;
        }
        let others = chain[..place].iter().filter(|f| !is_edns(f));
        let (passable, lower): (Vec<_>, Vec<_>) = others.partition(|f| f.priority() == self.site.priority);
        let may = moves.may(now);
        if !passable.is_empty() && may {
            match self.site.add(filters, &self.loaded, &chain) {
                Ok(Some(handle)) => {
                    moves.moved(now);
                    self.handle = handle;
                    filters.delete(&chain[place])?;
                    return Ok(Look::There { in_front: in_front(&lower), passed: in_front(&passable), again: None });
                }
                // It stays where it is until a daemon of this config goes.
                Ok(None) => {}
                // Somebody took the qdisc away in between.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) || is_no_egress(&e) => return Ok(Look::Gone),
                Err(e) => return Err(e),
            }
        }
        let again = if may || passable.is_empty() { None } else { moves.next() };
        Ok(Look::There { in_front: in_front(&[lower, passable].concat()), passed: Vec::new(), again })
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
            log::warn!("interface {}: detaching: {e}", self.site.ifindex);
        }
    }
}

/// Whether a filter runs a program of eDNS whose daemon lives: it leaves to the next what it does not answer.
fn is_edns(filter: &Filter) -> bool {
    filter.name().starts_with(leftovers::PROGRAM_PREFIX) && filter.program_id().is_some_and(is_alive)
}

fn in_front(filters: &[&Filter]) -> Vec<InFront> {
    let of = |f: &&Filter| InFront { id: f.program_id(), name: Some(f.name().into()), priority: Some(f.priority()) };
    filters.iter().map(of).collect()
}
