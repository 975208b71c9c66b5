//! eDNS answers DNS queries in the kernel. This library has all of its code; the binary only calls it.
//!
//! [`source`] reads names: static ones from a file, the cluster's from the Kubernetes API. [`zone`] turns them into nodes, one
//! for each name, each with the answers that the kernel gives for it. It does no I/O and knows no BPF.
//!
//! [`datapath`] is the kernel's side. Its `table` writes the nodes into maps. Its `program` loads the BPF programs that read
//! them; their C source is in `src/bpf`. [`datapath::attach`] attaches the programs to interfaces. [`interfaces`] follows the
//! interfaces by netlink. [`datapath::counters`] counts queries by their outcome.
//!
//! [`daemon`] puts the parts together: it starts them, sends heartbeats to the programs, reloads changed files, and opens
//! and closes the gates that hold answers back. [`privileges`] drops capabilities before the daemon starts. The user's
//! settings are in [`config`] and [`cli`]; [`yaml`] reads the config and the static names and reports errors by line.
//!
//! [`commands`] are the other subcommands, such as `edns stats`; they ask the running daemon over [`control`]. [`metrics`]
//! renders the same figures for Prometheus.
//!
//! ARCHITECTURE.md follows a packet, a record, a setting and a counter through these modules.

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
