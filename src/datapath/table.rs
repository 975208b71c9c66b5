//! The zone in the maps: nodes in an arena, found by a hash index. One writer, any number of readers beside the programs.

mod arena;
mod encode;
mod error;
mod hash;
mod index;
mod reader;
mod refused;
mod writer;

pub use self::arena::ArenaError;
pub use self::encode::EncodeError;
pub use self::error::TableError;
pub use self::hash::HashKey;
pub(super) use self::hash::random;
pub(super) use self::index::map_lines;
pub use self::reader::{Reader, Record};
pub use self::refused::{Reason, Refused};
pub use self::writer::{Below, Put, Table};
