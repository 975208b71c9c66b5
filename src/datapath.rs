//! eDNS in the kernel: loading the program, the maps it reads, the counters it writes. The only user of libbpf-rs.
//!
//! [`Datapath`] loads; [`Table`] writes the zone, [`Refused`] knows what it has no place for, and [`Reader`] reads it;
//! [`Settings`] tells running programs what holds; [`TestRun`] runs one on a
//! packet of ours; [`counters`] reads what became of queries, [`Events`] each of them. [`attach`] puts the program on interfaces.

mod abi;
pub mod attach;
mod mapped;
mod program;
mod skel;
mod table;

pub use abi::{ANSWER_MAX, RECORDS_MAX, SERVERS_MAX};
pub use program::{Datapath, Event, Events, Gate, LoadError, Options, Program, Settings, TestRun, counters, probe};
pub use table::{
    ArenaError, Below, EncodeError, HashKey, Put, Reader, Reason, Record, Refused, Table, TableError,
};
