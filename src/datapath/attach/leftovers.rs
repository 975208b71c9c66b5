//! Filters on clsact of daemons that were killed. The next one with the same config takes them away where it attaches, and while it
//! runs; where its direction or interfaces are others by now, they are looked for at its start and end.

use std::io;

use super::Direction;
use super::alive::is_alive;
use super::clsact::is_of_config;
use super::filters::{Filter, Filters};

/// What our programs' names begin with.
pub(super) const PROGRAM_PREFIX: &str = "edns_";

/// Takes away what dead daemons of this config, which has this handle, left on an interface. Returns how many filters that
/// were.
pub(super) fn remove(filters: &Filters, ifindex: u32, handle: u32) -> io::Result<usize> {
    let mut removed = 0;
    for direction in [Direction::Ingress, Direction::Egress] {
        for filter in filters.list(ifindex, direction)?.iter().filter(|f| is_leftover(f, handle)) {
            filters.delete(filter)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// One of our programs', by its name and handle, and of nobody who lives.
pub(super) fn is_leftover(filter: &Filter, handle: u32) -> bool {
    is_of_config(filter, handle)
        && filter.name().starts_with(PROGRAM_PREFIX)
        && filter.program_id().is_some_and(|id| !is_alive(id))
}
