//! The memory that nodes lie in: maps of equal size in `edns_chunks`, mapped into the daemon, made as they are needed.
//!
//! A ref names a unit: chunk * [`CHUNK_UNITS`] + unit within it. Ref 0 is none, so unit 0 of chunk 0 is never given out.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::abi::{CHUNK_UNITS, CHUNK_VALUE, CHUNKS, UNIT};

/// A map's value, shared with the kernel's programs.
pub(super) struct Mapped {
    octets: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its mapping, and gives out nothing but a pointer to it: who uses that says why it may.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the first `len` octets of a mmapable array map.
    pub(super) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let octets =
            unsafe { mmap(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { octets: octets.cast(), len })
    }

    /// Zeros that no kernel map knows of.
    #[cfg(test)]
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: as above.
        let octets = unsafe {
            nix::sys::mman::mmap_anonymous(
                None,
                size,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
            )
        }?;
        Ok(Self { octets: octets.cast(), len })
    }

    pub(super) const fn as_ptr(&self) -> *mut u8 {
        self.octets.as_ptr()
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and nothing borrows from a Mapped that is dropped.
        let _ = unsafe { munmap(self.octets.cast(), self.len) };
    }
}

/// Why a node got no memory.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// All chunks are there and full.
    #[error("the record maps hold their {} MiB", (CHUNKS * CHUNK_UNITS * UNIT) >> 20)]
    Exhausted,
    /// The kernel gave no memory for a further map.
    #[error("the kernel made no further record map: {0}")]
    Kernel(#[from] io::Error),
}

/// Retired units below this number are kept without waiting for programs to be done with them.
const RECLAIM_MIN: usize = 4096;

/// The allocator. Single writer; programs read at any time.
pub(super) struct Arena {
    outer: OwnedFd,
    chunks: Vec<(OwnedFd, Mapped)>,
    /// Units handed out of the last chunk.
    bump: usize,
    /// Free runs by number of units.
    free: Vec<Vec<u32>>,
    /// Runs no longer referred to, which programs may still read.
    retired: Vec<(u32, usize)>,
    retired_units: usize,
    live_units: usize,
}

impl Arena {
    /// An arena over the map `edns_chunks`, with one chunk.
    pub(super) fn new(outer: OwnedFd) -> Result<Self, ArenaError> {
        let mut arena = Self {
            outer,
            chunks: Vec::new(),
            bump: 1,
            free: Vec::new(),
            retired: Vec::new(),
            retired_units: 0,
            live_units: 0,
        };
        arena.add_chunk()?;
        Ok(arena)
    }

    /// Octets of kernel memory in chunks.
    pub(super) fn octets(&self) -> usize {
        self.chunks.len() * CHUNK_VALUE
    }

    /// Copies a node into the arena.
    pub(super) fn store(&mut self, node: &[u8]) -> Result<u32, ArenaError> {
        let units = node.len().div_ceil(UNIT);
        if self.retired_units > RECLAIM_MIN.max(self.live_units / 8) {
            self.reclaim()?;
        }
        let at = match self.take(units) {
            Some(at) => at,
            None if self.chunks.len() < CHUNKS => {
                self.add_chunk()?;
                self.take(units).ok_or(ArenaError::Exhausted)?
            }
            None => {
                self.reclaim()?;
                self.take(units).ok_or(ArenaError::Exhausted)?
            }
        };
        self.live_units += units;
        // SAFETY: the run is within its chunk and free: no program and no other node refers to it.
        unsafe { std::ptr::copy_nonoverlapping(node.as_ptr(), self.ptr(at), node.len()) };
        Ok(at)
    }

    /// Gives back a node that nothing refers to any more; it is reused when no program can be reading it.
    pub(super) fn retire(&mut self, at: u32, octets: usize) {
        let units = octets.div_ceil(UNIT);
        self.retired.push((at, units));
        self.retired_units += units;
        self.live_units -= units;
    }

    /// From a node on, to the end of its chunk's value.
    pub(super) fn octets_at(&self, at: u32) -> &[u8] {
        let len = CHUNK_VALUE - at as usize % CHUNK_UNITS * UNIT;
        // SAFETY: within the mapping; a stored node changes only when it is retired and reused, by &mut self.
        unsafe { std::slice::from_raw_parts(self.ptr(at), len) }
    }

    fn ptr(&self, at: u32) -> *mut u8 {
        let (chunk, unit) = (at as usize / CHUNK_UNITS, at as usize % CHUNK_UNITS);
        // SAFETY: a ref's unit is within the chunk.
        unsafe { self.chunks[chunk].1.as_ptr().add(unit * UNIT) }
    }

    /// A free run: one of just this size, else the end of the last chunk, else a piece of a larger one.
    fn take(&mut self, units: usize) -> Option<u32> {
        if let Some(at) = self.free.get_mut(units).and_then(Vec::pop) {
            return Some(at);
        }
        if self.bump + units <= CHUNK_UNITS {
            let at = (self.chunks.len() - 1) * CHUNK_UNITS + self.bump;
            self.bump += units;
            return Some(at as u32);
        }
        let larger = (units + 1..self.free.len()).find(|n| !self.free[*n].is_empty())?;
        let at = self.free[larger].pop()?;
        self.give(at + units as u32, larger - units);
        Some(at)
    }

    fn give(&mut self, at: u32, units: usize) {
        if self.free.len() <= units {
            self.free.resize_with(units + 1, Vec::new);
        }
        self.free[units].push(at);
    }

    fn add_chunk(&mut self) -> Result<(), ArenaError> {
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            // As the inner map in edns.bpf.c has it, else the outer map refuses it.
            map_flags: libbpf_sys::BPF_F_MMAPABLE,
            ..Default::default()
        };
        // SAFETY: name and opts live through the call.
        let fd = unsafe {
            libbpf_sys::bpf_map_create(
                libbpf_sys::BPF_MAP_TYPE_ARRAY,
                c"edns_chunk".as_ptr(),
                size_of::<u32>() as u32,
                CHUNK_VALUE as u32,
                1,
                &raw const opts,
            )
        };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd).into());
        }
        // SAFETY: a file descriptor that is ours since just now.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mapped = Mapped::new(fd.as_fd(), CHUNK_VALUE.next_multiple_of(page_size()))?;
        self.publish(self.chunks.len() as u32, &fd)?;

        let rest = CHUNK_UNITS - self.bump;
        if !self.chunks.is_empty() && rest > 0 {
            self.give(((self.chunks.len() - 1) * CHUNK_UNITS + self.bump) as u32, rest);
        }
        self.bump = usize::from(self.chunks.is_empty());
        self.chunks.push((fd, mapped));
        Ok(())
    }

    /// Puts a chunk into the outer map. The kernel waits until every program that runs now is done before it returns
    /// (`maybe_wait_bpf_programs`), so that who updates a map of maps knows that nothing uses what was there before.
    fn publish(&self, chunk: u32, fd: &OwnedFd) -> io::Result<()> {
        let value = fd.as_raw_fd();
        // SAFETY: key and value live through the call and have the sizes of the outer map's.
        let ret = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.outer.as_raw_fd(),
                (&raw const chunk).cast(),
                (&raw const value).cast(),
                libbpf_sys::BPF_ANY.into(),
            )
        };
        if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(()) }
    }

    /// Waits until no program can read what was retired, and frees it. Takes as long as an RCU grace period, some 10 ms.
    pub(super) fn reclaim(&mut self) -> io::Result<()> {
        self.publish(0, &self.chunks[0].0)?;
        self.retired_units = 0;
        for (at, units) in std::mem::take(&mut self.retired) {
            self.give(at, units);
        }
        Ok(())
    }
}

pub(super) fn page_size() -> usize {
    // SAFETY: sysconf has no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}
