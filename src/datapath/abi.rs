//! The types and limits that the programs and the daemon share (`src/bpf/abi.h`), from the object's BTF.

use super::skel::types;
use crate::zone::cluster::share::Size;
use crate::zone::lookup::ANCESTORS_MAX;

pub(super) use types::{
    edns_answer, edns_event, edns_key, edns_mac, edns_node, edns_server, edns_settings, edns_stats, edns_type,
};

const fn limit(limit: types::edns_limits) -> usize {
    limit.0 as usize
}

/// Bytes of a unit, the arena's granularity of allocation.
pub(super) const UNIT: usize = limit(types::edns_limits::EDNS_UNIT);
/// Units in a chunk.
pub(super) const CHUNK_UNITS: usize = limit(types::edns_limits::EDNS_CHUNK_UNITS);
/// Largest number of chunks.
pub(super) const CHUNKS: usize = limit(types::edns_limits::EDNS_CHUNKS);
/// Bytes of a chunk's map value.
pub(super) const CHUNK_VALUE: usize =
    limit(types::edns_limits::EDNS_CHUNK_OCTETS) + limit(types::edns_limits::EDNS_CHUNK_SLACK);
/// Words in an index line (a cache line).
pub(super) const LINE_WORDS: usize = limit(types::edns_limits::EDNS_LINE_WORDS);
/// Lines of the index that a lookup probes for a name.
pub(super) const PROBE_LINES: usize = limit(types::edns_limits::EDNS_PROBE_LINES);
/// Bits of a node's ref in an index word; the tag is in the bits above.
pub(super) const REF_BITS: u32 = limit(types::edns_limits::EDNS_REF_BITS) as u32;
/// Index word of a tombstone: a slot whose name was removed.
pub(super) const WORD_TOMBSTONE: u32 = types::edns_limits::EDNS_WORD_TOMBSTONE.0 as u32;
/// Largest number of types in one node.
pub(super) const TYPES_MAX: usize = limit(types::edns_limits::EDNS_TYPES_MAX);
/// Every answer starts below this offset in bytes from the start of its node.
pub(super) const NODE_MAX: usize = limit(types::edns_limits::EDNS_NODE_MAX);
/// Size in octets of the largest DNS message that eDNS sends.
pub const ANSWER_MAX: usize = limit(types::edns_limits::EDNS_ANSWER_MAX);
/// Number of hash keys in the settings.
pub(super) const KEYS: usize = limit(types::edns_limits::EDNS_KEYS);
/// 8-octet words in the longest name.
pub(super) const KEY_WORDS: usize = limit(types::edns_limits::EDNS_KEY_WORDS);
/// Number of IPv4 server addresses in the settings.
pub(super) const SERVERS_FIRST: usize = limit(types::edns_limits::EDNS_SERVERS_FIRST);
/// Largest number of DNS server addresses.
pub const SERVERS_MAX: usize = limit(types::edns_limits::EDNS_SERVERS_MAX);

/// The largest number of names: an index word must be able to refer to each, and half of the slots stay free.
pub const RECORDS_MAX: u32 = 1 << (REF_BITS - 1);

/// The bytes of an ABI struct, as the programs read them.
pub(super) fn octets_of<T: Abi>(value: &T) -> &[u8] {
    // SAFETY: Abi promises that T has no padding, so each octet is initialised; the slice borrows from the value.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Reads an ABI struct from `octets`, starting at offset `at`.
///
/// # Panics
/// If `octets` end before the struct does.
pub(super) fn read_at<T: Abi>(octets: &[u8], at: usize) -> T {
    let octets = &octets[at..at + size_of::<T>()];
    // SAFETY: the slice has the size of T, and Abi promises that any octets make a valid T.
    unsafe { octets.as_ptr().cast::<T>().read_unaligned() }
}

/// A plain struct of the ABI.
///
/// # Safety
/// The type has no padding, and every bit pattern is a valid value.
pub(super) unsafe trait Abi: Copy {}

// SAFETY: integers only; the sizes below are the sums of their fields.
unsafe impl Abi for edns_node {}
// SAFETY: as above.
unsafe impl Abi for edns_type {}
// SAFETY: as above.
unsafe impl Abi for edns_answer {}
// SAFETY: as above.
unsafe impl Abi for edns_server {}
// SAFETY: as above.
unsafe impl Abi for edns_mac {}
// SAFETY: as above.
unsafe impl Abi for edns_stats {}
// SAFETY: integers only, and its padding is a field.
unsafe impl Abi for edns_event {}

const _: () = assert!(size_of::<edns_node>() == 16 && size_of::<edns_type>() == 4 && size_of::<edns_answer>() == 16);
const _: () = assert!(size_of::<edns_event>() == 56 + limit(types::edns_limits::EDNS_EVENT_OCTETS));
// The zone knows no BPF, so it states these values itself.
const _: () = assert!(ANCESTORS_MAX == limit(types::edns_limits::EDNS_ENCLOSERS_MAX));
const _: () = assert!(Size::UNIT == UNIT && Size::ANSWER_MAX == ANSWER_MAX);
