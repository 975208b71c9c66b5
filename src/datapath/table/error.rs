//! Why a name is not in the maps.

use super::arena::ArenaError;
use super::encode::EncodeError;

/// Why a name is not in the maps.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// As many names as MaxRecords allows.
    #[error("the record maps are full: MaxRecords allows {0} names; raise it and restart")]
    Full(usize),
    /// Too many names whose hashes are alike, so soon after the index got another key.
    #[error("no slot is left for its hash until the index gets another key, in a minute at the latest")]
    Collisions,
    /// No memory for its node.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// A node that the maps can't express.
    #[error(transparent)]
    Node(#[from] EncodeError),
}
