//! The socket between a running daemon and the commands: one request a connection, a JSON text a line.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub mod client;
pub mod running;
pub mod server;

/// Where daemons listen. systemd's RuntimeDirectory=edns makes it for a daemon without root's rights.
pub const RUN_DIR: &str = "/run/edns";

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Runs the kernel's program on a query. Replied to with one [`LookupReply`].
    Lookup {
        /// Dotted text.
        name: String,
        /// RFC 1035 TYPE.
        qtype: u16,
    },
    /// All that the maps hold. Replied to with a [`RecordReply`] for each answer.
    Records,
    /// Replied to with one [`StatsReply`].
    Stats,
    /// Addresses that queries are answered in place of. Replied to with a list of them, the likeliest to be there first.
    Servers,
    /// Interfaces with the program. Replied to with a list of their numbers and names.
    Interfaces,
    /// Queries are told of one by one, until the connection ends. Replied to with null, and with it the file descriptor of
    /// the ring of events ([`crate::datapath::QueryEvents`]).
    Trace,
    /// Everything passes from now on. Replied to with null.
    Pause {
        /// For so long; None: until [`Request::Resume`].
        seconds: Option<u64>,
    },
    /// The end of a pause. Replied to with null.
    Resume,
}

/// What the kernel's program does with a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupReply {
    /// As in `edns_queries_total`.
    pub outcome: String,
    /// The DNS message, where it is answered.
    pub message: Option<Vec<u8>>,
}

/// An answer in the maps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordReply {
    /// The owner, with the final dot; below a name: `*` and that name.
    pub name: String,
    /// RFC 1035 TYPE; 0 for all that the name does not list.
    pub qtype: u16,
    /// Octets behind the question; None where the question passes.
    pub answer: Option<Vec<u8>>,
    /// Records in the answer, authority and additional section.
    pub counts: [u16; 3],
}

/// The counters, what the daemon holds, and how it stands with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatsReply {
    /// Queries by outcome and family since the daemon began.
    pub queries: Vec<OutcomeCount>,
    /// Names in the maps.
    pub records: u64,
    /// Names that fit.
    pub max_records: u64,
    /// Names that pass for want of a place in the maps.
    pub refused_records: u64,
    /// How often names collided, and are hashed by another key since.
    pub rekeys: u64,
    /// Names that pass for want of a place, by reason.
    pub names_passed: Vec<PassedReply>,
    /// Namespaces of the cluster that have most names.
    pub holders: Vec<HolderReply>,
    /// Octets of kernel memory that records take.
    pub map_bytes: u64,
    /// Interfaces with our program.
    pub attached_interfaces: Vec<String>,
    /// The same, with their places in the chains.
    pub interfaces: Vec<InterfaceReply>,
    /// Why interfaces that should have it have it not.
    pub unattached: Vec<String>,
    /// How often attaching failed.
    pub attach_errors: u64,
    /// How often config and names were read anew since the start, and took effect.
    pub reloads: u64,
    /// How often they could not be.
    pub reload_errors: u64,
    /// Why, where that is so of the last time.
    pub reload_error: Option<String>,
    /// Why changes of files are not in effect.
    #[serde(default)]
    pub held_files: Vec<String>,
    /// How it stands with the cluster, where there is one.
    pub sync: Option<SyncReply>,
    /// Why the daemon is not ready, where it is not.
    pub not_ready: Option<String>,
    /// Of the daemon.
    pub version: String,
    /// Of the daemon.
    pub pid: u32,
    /// When it started, in seconds since the Unix epoch.
    pub start_time_seconds: u64,
    /// Since it is up.
    pub uptime_seconds: u64,
    /// Events for which the ring had no room while somebody traced.
    pub events_lost: u64,
    /// Whether everything passes since it was told so.
    pub paused: bool,
}

/// An interface with our program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReply {
    /// Of the interface.
    pub name: String,
    /// Whether no other program but eDNS' goes first.
    pub is_first: bool,
    /// Those that do.
    pub in_front: Vec<InFrontReply>,
}

/// A program of somebody else's that runs before ours, and may end the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFrontReply {
    /// As the kernel numbers BPF programs; other kinds of filters have none.
    pub id: Option<u32>,
    /// What its filter on clsact is called.
    pub name: Option<String>,
    /// Of that filter.
    pub priority: Option<u16>,
}

/// Names that pass for want of a place in the maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedReply {
    /// As in `edns_names_passed`.
    pub reason: String,
    /// Names.
    pub count: u64,
}

/// A namespace and its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderReply {
    /// Of the cluster.
    pub namespace: String,
    /// Names that it has.
    pub names: u64,
    /// Names of these that pass, since it has more than its share of the maps.
    pub passing: u64,
    /// Where some pass, the Service or EndpointSlice that has most.
    pub largest: Option<String>,
}

/// The view of the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncReply {
    /// Whether the cluster's zone was read whole, and is answered.
    pub synced: bool,
    /// Whether the view is current, so that what is absent from it does not exist.
    pub current: bool,
    /// Since it is not, where it was before.
    pub stale_seconds: Option<f64>,
    /// How long that may be before all names of the cluster pass, on this node; None: for ever.
    pub max_stale_seconds: Option<f64>,
    /// Whether it has been for longer.
    #[serde(default)]
    pub expired: bool,
    /// By kind of object.
    pub kinds: Vec<KindReply>,
}

/// The view of one kind of object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindReply {
    /// As in the API's paths.
    pub kind: String,
    /// Since the API server was heard of.
    pub silent_seconds: f64,
    /// Since a list or watch failed, where none has succeeded since.
    pub broken_seconds: Option<f64>,
    /// Lists and watches that failed.
    pub errors: u64,
    /// Lists that were read whole.
    pub lists: u64,
}

/// A counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCount {
    /// As in `edns_queries_total`.
    pub outcome: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Queries.
    pub count: u64,
}

/// The socket of the daemon with this config file: its name, for who looks, and a hash of its path, since there may be
/// several of one name.
///
/// # Errors
/// Where the config file's folder is not there.
pub fn socket_path(config: &Path) -> io::Result<PathBuf> {
    let config = config_path(config)?;
    let stem = config.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
    Ok(Path::new(RUN_DIR).join(format!("{stem}-{:016x}.sock", path_hash(&config))))
}

/// What tells the daemon with this config file from others.
///
/// # Errors
/// As [`socket_path`].
pub fn config_hash(config: &Path) -> io::Result<u64> {
    config_path(config).map(|p| path_hash(&p))
}

/// The one path of a config file. A link that is the file itself stays: a ConfigMap's leads elsewhere after each change.
fn config_path(config: &Path) -> io::Result<PathBuf> {
    let name = config.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = config.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(name))
}

/// FNV-1a: the same in every version, so that a new one finds what an old one made.
fn path_hash(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}
