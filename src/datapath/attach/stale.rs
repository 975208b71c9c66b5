//! Stale filters: filters on clsact that killed daemons left. The next daemon with the same config deletes those on its own
//! interfaces when it attaches and while it runs. At its start and end it deletes those elsewhere.

use std::io;

use super::Direction;
use super::clsact::is_of_config;
use super::filters::{Filter, Filters};
use super::liveness::is_alive;

/// The prefix of our programs' names.
const PROGRAM_PREFIX: &str = "edns_";

/// Deletes the stale filters on an interface that belong to the config with this handle. Returns how many it deleted.
pub(super) fn remove(filters: &Filters, ifindex: u32, handle: u32) -> io::Result<usize> {
    let mut removed = 0;
    for direction in [Direction::Ingress, Direction::Egress] {
        for filter in filters.list(ifindex, direction)?.iter().filter(|f| is_stale(f, handle)) {
            filters.delete(filter)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a filter has a handle of this config and runs a program of eDNS whose daemon is dead.
pub(super) fn is_stale(filter: &Filter, handle: u32) -> bool {
    is_of_config(filter, handle) && has_our_name(filter) && filter.program_id().is_some_and(|id| !is_alive(id))
}

/// Whether a filter runs a program with the name of one of ours.
pub(super) fn has_our_name(filter: &Filter) -> bool {
    filter.name().starts_with(PROGRAM_PREFIX)
}
