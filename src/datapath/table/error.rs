//! Errors of the table.

use super::arena::ArenaError;
use super::encode::EncodeError;

/// Why a name is not in the maps.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table already holds `MaxRecords` names.
    #[error("the record maps are full: MaxRecords allows {0} names; raise it and restart")]
    Full(usize),
    /// All index slots for the name's hash are taken, and the hash key was changed less than a minute ago.
    #[error("hash collision: no index slot is free; a new hash key follows within a minute")]
    Collisions,
    /// The arena has no memory for the node.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The node can't be encoded.
    #[error(transparent)]
    Node(#[from] EncodeError),
}
