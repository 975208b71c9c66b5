//! BPF maps whose memory is mapped into the daemon.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A map's values in shared memory, which programs read and write at the same time.
pub(super) struct Mapped {
    octets: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its mapping and only gives out a raw pointer to it; each use of the pointer states why it is sound.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps the first `len` bytes of an array map with BPF_F_MMAPABLE.
    pub(super) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no other memory.
        let octets =
            unsafe { mmap(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { octets: octets.cast(), len })
    }

    /// Zeroed memory without a map, for tests.
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
        // SAFETY: the mapping was made by mmap with this length, and nothing borrows from a Mapped that is dropped.
        let _ = unsafe { munmap(self.octets.cast(), self.len) };
    }
}
