//! eDNS in the kernel: loading the program, the maps it reads, the counters it writes. The only user of libbpf-rs.
//!
//! [`Datapath`] loads; [`Table`] writes the zone, [`Refused`] knows what it has no place for, and [`Reader`] reads it;
//! [`Settings`] tells running programs what holds; [`TestRun`] runs one on a
//! packet of ours; [`counters`] reads what became of queries, [`Events`] each of them. [`interfaces`] follows what [`attach`] attaches it to.

mod abi;
mod arena;
pub mod attach;
pub mod counters;
mod encode;
mod events;
mod hash;
pub mod ifpattern;
mod index;
pub mod interfaces;
mod ipvs;
mod load;
mod netlink;
pub mod probe;
mod reader;
mod refused;
mod settings;
mod skel;
mod table;
mod test_run;

pub use abi::{ANSWER_MAX, RECORDS_MAX, SERVERS_MAX};
pub use arena::ArenaError;
pub use encode::EncodeError;
pub use events::{Event, Events};
pub use hash::HashKey;
pub use load::{Datapath, LoadError, Options, Program};
pub use reader::{Reader, Record};
pub use refused::{Reason, Refused};
pub use settings::{Gate, Settings};
pub use table::{Below, Put, Table, TableError};
pub use test_run::TestRun;
