//! eDNS in the kernel: the BPF programs, the maps that they read and the counters that they write. The only user of libbpf-rs.
//!
//! [`Datapath`] loads the programs. [`Table`] writes names and their answers, [`Refused`] keeps the names that do not fit, and
//! [`Reader`] reads the maps. [`ProgramSettings`] changes the settings of running programs. [`TestRun`] runs a program on a
//! packet of the caller. [`counters`] counts queries by outcome, [`QueryEvents`] reports each query. [`attach`] attaches the
//! programs to interfaces.

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
pub use table::{
    ArenaError, EncloserNodes, EncodeError, HashKey, Put, Reader, Reason, Record, Refused, Table, TableError,
};
