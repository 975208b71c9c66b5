//! eDNS in the kernel: loading the program, the maps it reads, the counters it writes. The only user of libbpf-rs.
//!
//! [`Datapath`] loads; [`Table`] writes the zone, [`Refused`] knows what it has no place for, and [`Reader`] reads it;
//! [`ProgramSettings`] tells running programs what holds; [`TestRun`] runs one on a
//! packet of ours; [`counters`] reads what became of queries, [`QueryEvents`] each of them. [`attach`] puts the program on interfaces.

mod abi;
pub mod attach;
mod mapped;
mod program;
mod settings;
mod skel;
mod sys;
mod table;

pub use abi::{ANSWER_MAX, RECORDS_MAX, SERVERS_MAX};
pub use program::{
    BEAT, BEAT_MAX, Datapath, LoadError, OUTCOMES, Options, Outcome, Program, QueryEvent, QueryEvents, TestRun,
    counters, probe,
};
pub use settings::{Gate, ProgramSettings};
pub use table::{ArenaError, Below, EncodeError, HashKey, Put, Reader, Reason, Record, Refused, Table, TableError};
