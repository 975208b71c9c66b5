//! The ring buffer of query events, which programs write while
//! [`ProgramSettings::set_trace`](crate::datapath::ProgramSettings::set_trace) is on. Any process that has its file descriptor
//! may read it, one reader at a time.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::time::Duration;

use libbpf_sys::{ring_buffer, ring_buffer__free, ring_buffer__new, ring_buffer__poll, size_t};

use super::counters::FAMILIES;
use super::outcome::Outcome;
use crate::datapath::abi::{edns_event, read_at};

/// A query and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryEvent {
    /// The time of the query by CLOCK_MONOTONIC.
    pub time: Duration,
    /// The interface whose program saw the query.
    pub ifindex: u32,
    /// The query's outcome.
    pub outcome: &'static Outcome,
    /// `ipv4` or `ipv6`, as in `edns_queries_total`.
    pub family: &'static str,
    /// The client's address and UDP port.
    pub client: (IpAddr, u16),
    /// The server's address.
    pub server: IpAddr,
    /// The start of the DNS message in wire format. Up to the end of the question it is what the client sent, except for the
    /// header's flags and counts. It is untrusted and may have any length.
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

/// A reader of the ring buffer.
pub struct QueryEvents {
    ring: NonNull<ring_buffer>,
    /// Events read so far. Only [`on_event`] writes it, within [`Self::poll`].
    read: NonNull<Vec<QueryEvent>>,
    _map: OwnedFd,
}

/// Most events of one call: if they came faster than they are read, the call would never end.
const READ_MAX: usize = 4096;

/// libbpf calls it for each event. A negative return value ends the call of `ring_buffer__poll`.
///
/// # Safety
/// `read` is the vector of a [`QueryEvents`], and `data` has `len` bytes.
unsafe extern "C" fn on_event(read: *mut libc::c_void, data: *mut libc::c_void, len: size_t) -> libc::c_int {
    // SAFETY: as promised by the caller.
    let (read, octets) =
        unsafe { (&mut *read.cast::<Vec<QueryEvent>>(), std::slice::from_raw_parts(data.cast::<u8>(), len as usize)) };
    read.extend(QueryEvent::read(octets));
    if read.len() < READ_MAX { 0 } else { -libc::ECANCELED }
}

impl QueryEvents {
    /// Opens the ring buffer of this map ([`Datapath::events`](crate::datapath::Datapath::events)).
    ///
    /// # Errors
    /// If the map is no ring buffer or can't be mapped.
    pub fn open(map: OwnedFd) -> io::Result<Self> {
        let read = NonNull::from(Box::leak(Box::<Vec<QueryEvent>>::default()));
        // SAFETY: the vector never moves and outlives the ring. A null pointer means no options.
        let ring = unsafe { ring_buffer__new(map.as_raw_fd(), Some(on_event), read.as_ptr().cast(), std::ptr::null()) };
        match NonNull::new(ring) {
            Some(ring) => Ok(Self { ring, read, _map: map }),
            // The vector leaks: 24 bytes without elements.
            None => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for events, at most `wait`. Returns up to 4096 of them, or none after `wait`.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn poll(&mut self, wait: Duration) -> io::Result<Vec<QueryEvent>> {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the ring lives, and nothing else accesses the vector while this runs.
        let events = unsafe { ring_buffer__poll(self.ring.as_ptr(), millis) };
        if events < 0 && ![-libc::EINTR, -libc::ECANCELED].contains(&events) {
            return Err(io::Error::from_raw_os_error(-events));
        }
        // SAFETY: the vector lives until the drop, and libbpf accesses it only within the call above.
        Ok(std::mem::take(unsafe { self.read.as_mut() }))
    }
}

impl Drop for QueryEvents {
    fn drop(&mut self) {
        // SAFETY: ring_buffer__new and a box made them, and each is freed once. The ring, which refers to the vector, goes first.
        unsafe {
            ring_buffer__free(self.ring.as_ptr());
            drop(Box::from_raw(self.read.as_ptr()));
        }
    }
}
