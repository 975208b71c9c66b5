//! What became of queries, summed over CPUs.

use std::io;

use libbpf_rs::{MapCore, MapFlags};

use crate::datapath::abi::{edns_stats, read_at};
use crate::datapath::skel::types::{edns_family, edns_outcome};

/// All outcomes with the names that users see, in the order of `enum edns_outcome`.
pub const OUTCOMES: [&str; edns_outcome::EDNS_OUTCOME_COUNT.0 as usize] = {
    let mut names = [""; edns_outcome::EDNS_OUTCOME_COUNT.0 as usize];
    let all = [
        (edns_outcome::EDNS_ANSWERED, "answered"),
        (edns_outcome::EDNS_NODATA, "nodata"),
        (edns_outcome::EDNS_NXDOMAIN, "nxdomain"),
        (edns_outcome::EDNS_PASS_NOT_FOUND, "pass_not_found"),
        (edns_outcome::EDNS_PASS_NAME, "pass_name"),
        (edns_outcome::EDNS_PASS_QTYPE, "pass_qtype"),
        (edns_outcome::EDNS_PASS_MALFORMED, "pass_malformed"),
        (edns_outcome::EDNS_PASS_FRAGMENT, "pass_fragment"),
        (edns_outcome::EDNS_PASS_IP_OPTIONS, "pass_ip_options"),
        (edns_outcome::EDNS_PASS_ADDRESS, "pass_address"),
        (edns_outcome::EDNS_PASS_EDNS, "pass_edns"),
        (edns_outcome::EDNS_PASS_TOO_LARGE, "pass_too_large"),
        (edns_outcome::EDNS_PASS_SERVER, "pass_server"),
        (edns_outcome::EDNS_PASS_IPVS, "pass_ipvs"),
        (edns_outcome::EDNS_PASS_NOT_SYNCED, "pass_not_synced"),
        (edns_outcome::EDNS_PASS_STALE, "pass_stale"),
        (edns_outcome::EDNS_PASS_INCOMPLETE, "pass_incomplete"),
        (edns_outcome::EDNS_PASS_PAUSED, "pass_paused"),
        (edns_outcome::EDNS_PASS_DAEMON, "pass_daemon"),
        (edns_outcome::EDNS_PASS_ERROR, "pass_error"),
    ];
    // An outcome without a name does not compile: index out of bounds, or an assertion.
    let mut i = 0;
    while i < all.len() {
        names[all[i].0.0 as usize] = all[i].1;
        i += 1;
    }
    let mut i = 0;
    while i < names.len() {
        assert!(!names[i].is_empty());
        i += 1;
    }
    names
};

/// IP versions with the names that users see, in the order of `enum edns_family`.
pub const FAMILIES: [&str; edns_family::EDNS_FAMILY_COUNT.0 as usize] = ["ipv4", "ipv6"];

/// The name of an outcome that a program returned; None for a packet that is no query to port 53.
#[must_use]
pub fn outcome_name(outcome: u32) -> Option<&'static str> {
    OUTCOMES.get(outcome as usize).copied()
}

/// Queries by outcome and family since the program was loaded.
pub type Queries = [[u64; FAMILIES.len()]; OUTCOMES.len()];

/// All counters, summed over CPUs: queries, and events that were lost.
///
/// # Errors
/// The system call's.
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
