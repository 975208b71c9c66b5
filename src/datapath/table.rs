//! The table: names and their nodes in BPF maps. A hash index leads from a name to its node in an arena. The table has one
//! writer; any number of readers and programs read it at the same time.

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
pub use self::writer::{EncloserNodes, Put, Table};
