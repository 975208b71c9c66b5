//! eDNS answers DNS queries in the kernel; this library is all of it but the thin binary. In reading order:
//!
//! - [`zone`]: what exists, and what the kernel answers for it. Names in, nodes out; no I/O, no BPF.
//! - [`source`]: where names come from.
//! - [`datapath`]: the program in the kernel, the maps that it reads, the interfaces that it runs on. Its C is in `src/bpf`.
//! - [`daemon`]: puts them together, from the start to the signal that ends it.
//! - [`privileges`]: what it gives up before that.
//! - [`config`] and [`cli`]: what the user says; [`yaml`] reads it and knows the lines.
//! - [`control`] and [`commands`]: how `edns lookup`, `records` and `stats` ask the running daemon; [`metrics`]: how
//!   Prometheus does.
//!
//! ARCHITECTURE.md walks a packet and a record through it.

pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod interfaces;
pub mod metrics;
pub mod privileges;
pub mod source;
pub mod yaml;
pub mod zone;
