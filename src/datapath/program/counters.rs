//! Counters of queries by outcome, summed over CPUs.

use std::io;

use libbpf_rs::{MapCore, MapFlags};

use super::outcome::OUTCOMES;
use crate::datapath::abi::{edns_stats, read_at};
use crate::datapath::skel::types::edns_family;

/// The names of the IP versions in statistics and metrics, in the order of `enum edns_family`.
pub const FAMILIES: [&str; edns_family::EDNS_FAMILY_COUNT.0 as usize] = ["ipv4", "ipv6"];

/// Numbers of queries since the program was loaded, by outcome and then by IP version.
pub type Queries = [[u64; FAMILIES.len()]; OUTCOMES.len()];

/// Reads all counters, summed over CPUs: the queries, and the number of lost events.
///
/// # Errors
/// The error of the system call.
pub(super) fn read(map: &impl MapCore) -> io::Result<(Queries, u64)> {
    let cpus = map
        .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(io::Error::other)?
        .ok_or(io::ErrorKind::NotFound)?;
    let (mut sum, mut lost) = (Queries::default(), 0);
    for cpu in cpus {
        let stats: edns_stats = read_at(&cpu, 0);
        for (sum, new) in sum.as_flattened_mut().iter_mut().zip(stats.queries.as_flattened()) {
            *sum += new;
        }
        lost += stats.events_lost;
    }
    Ok((sum, lost))
}
