//! The ring in which running programs tell of queries while [`super::ProgramSettings::set_trace`] says so. It may be read in any
//! process that has its file descriptor, by one reader at a time.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use libbpf_sys::{ring_buffer, ring_buffer__free, ring_buffer__new, ring_buffer__poll, size_t};

use super::counters::FAMILIES;
use super::outcome::Outcome;
use crate::datapath::abi::{edns_event, read_at};

/// What became of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryEvent {
    /// Of CLOCK_MONOTONIC.
    pub time: Duration,
    /// Of the interface that the program is on.
    pub ifindex: u32,
    /// What became of it.
    pub outcome: &'static Outcome,
    /// As in `edns_queries_total`.
    pub family: &'static str,
    /// Who asks.
    pub client: (IpAddr, u16),
    /// Who is asked.
    pub server: IpAddr,
    /// The start of the DNS message: as the client wrote it to the end of the question, but for the flags and counts of the
    /// header. It may be anything, and of any length.
    pub message: Vec<u8>,
}

impl QueryEvent {
    fn read(octets: &[u8]) -> Option<Self> {
        if octets.len() < size_of::<edns_event>() {
            return None;
        }
        let event: edns_event = read_at(octets, 0);
        Some(Self {
            time: Duration::from_nanos(event.time),
            ifindex: event.ifindex,
            outcome: Outcome::from_number(event.outcome.into())?,
            family: FAMILIES.get(usize::from(event.family))?,
            client: (address(event.client), u16::from_be(event.client_port)),
            server: address(event.server),
            message: event.message.get(..event.len.into())?.to_vec(),
        })
    }
}

fn address(words: [u32; 4]) -> IpAddr {
    Ipv6Addr::from_bits(words.iter().fold(0, |bits, word| bits << 32 | u128::from(u32::from_be(*word)))).to_canonical()
}

/// A reader.
pub struct QueryEvents {
    ring: NonNull<ring_buffer>,
    /// Written by [`on_event`] within [`Self::poll`], and by nobody else.
    read: NonNull<Vec<QueryEvent>>,
    _map: OwnedFd,
}

/// Events read at once; where they come faster than they are read, a call would never end.
const READ_MAX: usize = 4096;

/// Called by libbpf for each event; a negative value ends the call of `ring_buffer__poll`.
///
/// # Safety
/// `read` is the vector of an [`QueryEvents`], and `data` has `len` octets.
unsafe extern "C" fn on_event(read: *mut libc::c_void, data: *mut libc::c_void, len: size_t) -> libc::c_int {
    // SAFETY: as promised by the caller.
    let (read, octets) =
        unsafe { (&mut *read.cast::<Vec<QueryEvent>>(), std::slice::from_raw_parts(data.cast::<u8>(), len as usize)) };
    read.extend(QueryEvent::read(octets));
    if read.len() < READ_MAX { 0 } else { -libc::ECANCELED }
}

impl QueryEvents {
    /// Reads the ring of this map.
    ///
    /// # Errors
    /// Where it is none, or may not be read.
    pub fn open(map: OwnedFd) -> io::Result<Self> {
        let read = NonNull::from(Box::leak(Box::<Vec<QueryEvent>>::default()));
        // SAFETY: the vector stays where it is, and lives as long as the ring; no options are a null pointer.
        let ring = unsafe { ring_buffer__new(map.as_raw_fd(), Some(on_event), read.as_ptr().cast(), std::ptr::null()) };
        match NonNull::new(ring) {
            Some(ring) => Ok(Self { ring, read, _map: map }),
            // A vector without elements is lost with it: 24 octets.
            None => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for events, for so long at most; returns those that are there.
    ///
    /// # Errors
    /// The system call's.
    pub fn poll(&mut self, wait: Duration) -> io::Result<Vec<QueryEvent>> {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the ring lives; nobody else has the vector while this runs.
        let events = unsafe { ring_buffer__poll(self.ring.as_ptr(), millis) };
        if events < 0 && ![-libc::EINTR, -libc::ECANCELED].contains(&events) {
            return Err(io::Error::from_raw_os_error(-events));
        }
        // SAFETY: it lives until the drop, and libbpf is done with it for now.
        Ok(std::mem::take(unsafe { self.read.as_mut() }))
    }
}

impl Drop for QueryEvents {
    fn drop(&mut self) {
        // SAFETY: made by ring_buffer__new and by a box, and freed once; the ring, which refers to the vector, first.
        unsafe {
            ring_buffer__free(self.ring.as_ptr());
            drop(Box::from_raw(self.read.as_ptr()));
        }
    }
}
