//! What kernel and user space share (`src/bpf/abi.h`), as the object's BTF has it, in the integer types that Rust wants.

use super::skel::types;

pub(super) use types::{
    edns_answer, edns_event, edns_key, edns_node, edns_port, edns_server, edns_settings, edns_stats, edns_type,
};

const fn limit(limit: types::edns_limits) -> usize {
    limit.0 as usize
}

/// Octets of a unit, the grain of the arena.
pub(super) const UNIT: usize = limit(types::edns_limits::EDNS_UNIT);
/// Units of a chunk.
pub(super) const CHUNK_UNITS: usize = limit(types::edns_limits::EDNS_CHUNK_UNITS);
/// Chunks at most.
pub(super) const CHUNKS: usize = limit(types::edns_limits::EDNS_CHUNKS);
/// Octets of a chunk's map value.
pub(super) const CHUNK_VALUE: usize =
    limit(types::edns_limits::EDNS_CHUNK_OCTETS) + limit(types::edns_limits::EDNS_CHUNK_SLACK);
/// Words of an index line.
pub(super) const LINE_WORDS: usize = limit(types::edns_limits::EDNS_LINE_WORDS);
/// Lines that may hold a name.
pub(super) const PROBE_LINES: usize = limit(types::edns_limits::EDNS_PROBE_LINES);
/// Bits of a ref in an index word; the tag is above.
pub(super) const REF_BITS: u32 = limit(types::edns_limits::EDNS_REF_BITS) as u32;
/// The word of a slot whose node was removed.
pub(super) const WORD_DEAD: u32 = types::edns_limits::EDNS_WORD_DEAD.0 as u32;
/// Types listed in one node, at most.
pub(super) const TYPES_MAX: usize = limit(types::edns_limits::EDNS_TYPES_MAX);
/// An answer begins below this offset of its node.
pub(super) const NODE_MAX: usize = limit(types::edns_limits::EDNS_NODE_MAX);
/// Octets of the largest DNS message that is sent.
pub const ANSWER_MAX: usize = limit(types::edns_limits::EDNS_ANSWER_MAX);
/// Hash keys.
pub(super) const KEYS: usize = limit(types::edns_limits::EDNS_KEYS);
/// Words of 8 octets in the longest name.
pub(super) const KEY_WORDS: usize = limit(types::edns_limits::EDNS_KEY_WORDS);
/// IPv4 addresses of servers in the settings.
pub(super) const SERVERS_FIRST: usize = limit(types::edns_limits::EDNS_SERVERS_FIRST);
/// Server addresses at most.
pub const SERVERS_MAX: usize = limit(types::edns_limits::EDNS_SERVERS_MAX);

/// The largest number of names: an index word's ref must be able to name each, and half of the slots stay free.
pub const RECORDS_MAX: u32 = 1 << (REF_BITS - 1);

/// A plain struct of the ABI as the octets that the kernel reads.
pub(super) fn octets_of<T: Abi>(value: &T) -> &[u8] {
    // SAFETY: Abi promises that T has no padding, so each octet is initialised; the slice borrows from the value.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A plain struct of the ABI out of the octets at `at`.
///
/// # Panics
/// If they end before.
pub(super) fn read_at<T: Abi>(octets: &[u8], at: usize) -> T {
    let octets = &octets[at..at + size_of::<T>()];
    // SAFETY: the slice has the size of T, and Abi promises that any octets make a valid T.
    unsafe { octets.as_ptr().cast::<T>().read_unaligned() }
}

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
unsafe impl Abi for edns_port {}
// SAFETY: as above.
unsafe impl Abi for edns_stats {}
// SAFETY: as above; its padding is a field.
unsafe impl Abi for edns_event {}

const _: () = assert!(size_of::<edns_node>() == 16 && size_of::<edns_type>() == 4 && size_of::<edns_answer>() == 16);
const _: () = assert!(size_of::<edns_event>() == 56 + limit(types::edns_limits::EDNS_EVENT_OCTETS));
