//! eDNS answers DNS queries in the kernel. This library is everything but the thin binary.
//!
//! Names come in at [`source`]: static ones from a file, the cluster's from the Kubernetes API. [`zone`] turns them into nodes, one
//! for each name, each with the answers that the kernel gives for it. It does no I/O and knows no BPF.
//!
//! [`datapath`] is the kernel's side. Its `table` writes the nodes into maps, its `program` loads the BPF programs that read
//! them, whose C is in `src/bpf`, and [`datapath::attach`] puts the programs on interfaces. Which interfaces those are
//! [`interfaces`] says, which follows them by netlink. What became of a query is one of [`datapath::counters`].
//!
//! [`daemon`] puts the parts together: it starts them, sends heartbeats to the programs, reloads changed files and opens
//! and closes the gates that hold answers back. [`privileges`] drops capabilities before it starts. The user's settings are
//! in [`config`] and [`cli`]; [`yaml`] reads both files and reports errors by line.
//!
//! [`commands`] are the other subcommands, such as `edns stats`; they ask the running daemon over [`control`]. [`metrics`]
//! makes Prometheus' page of the same figures.
//!
//! ARCHITECTURE.md follows a packet and a record through these modules.

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
