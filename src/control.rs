//! The control socket between the daemon and the commands. A connection carries one request; every message is one line of JSON.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod client;
pub mod running;
pub mod server;

/// The folder of the control sockets. For a daemon without root's rights, systemd makes it (RuntimeDirectory=edns).
pub const RUN_DIR: &str = "/run/edns";

/// Maximum time that daemon and command wait for each other to write or read. A running daemon replies at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A request of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run the BPF program on a query. The reply is one [`LookupReply`].
    Lookup {
        /// Name in presentation format, with or without the final dot.
        name: String,
        /// RFC 1035 TYPE.
        qtype: u16,
    },
    /// List what the maps hold. One [`RecordReply`] for each answer.
    Records,
    /// Read counters and state. The reply is one [`StatsReply`].
    Stats,
    /// List the addresses of `DnsServers`. The reply is one list, NodeLocal DNSCache's address last.
    Servers,
    /// List the interfaces with the program. The reply is one list of ifindex and name.
    Interfaces,
    /// Write an event for each query to the ring buffer until the connection ends. The reply is null and carries the file
    /// descriptor of the ring ([`crate::datapath::QueryEvents`]).
    Trace,
    /// Pass all queries from now on. The reply is null.
    Pause {
        /// Duration of the pause; None: until [`Request::Resume`].
        seconds: Option<u64>,
    },
    /// End a pause. The reply is null.
    Resume,
}

/// The result of running the BPF program on a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupReply {
    /// Outcome, named as in `edns_queries_total`.
    pub outcome: String,
    /// The DNS message of the answer; None if the query passes.
    pub message: Option<Vec<u8>>,
}

/// An answer in the maps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordReply {
    /// Owner name with the final dot; `*.` and a name for the answer to absent names below that name.
    pub name: String,
    /// RFC 1035 TYPE; 0 for all types that the name does not list.
    pub qtype: u16,
    /// Octets of the message after the question; None if the query passes.
    pub answer: Option<Vec<u8>>,
    /// Number of records in the answer, authority and additional section.
    pub counts: [u16; 3],
}

/// Counters and state of the daemon: what `edns stats`, /metrics and the health checks show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatsReply {
    /// Queries by outcome and family since the daemon started.
    pub queries: Vec<OutcomeCount>,
    /// Names in the maps.
    pub records: u64,
    /// Names that the maps can hold (`MaxRecords`).
    pub max_records: u64,
    /// Names that pass because the maps have no place for them.
    pub refused_records: u64,
    /// How often the index got another hash key because names collided.
    pub rekeys: u64,
    /// Names that pass because the maps have no place for them, by reason.
    pub names_passed: Vec<PassedReply>,
    /// The namespaces with the most names, largest first.
    pub holders: Vec<HolderReply>,
    /// Kernel memory of the record maps, in bytes.
    pub map_bytes: u64,
    /// Names of the interfaces with the program.
    pub attached_interfaces: Vec<String>,
    /// Interfaces with the program, and the programs that run before it there.
    pub interfaces: Vec<InterfaceReply>,
    /// For each interface that could not be attached: its name and the reason.
    pub unattached: Vec<String>,
    /// Number of failures to attach.
    pub attach_errors: u64,
    /// Number of reloads that took effect.
    pub reloads: u64,
    /// Number of reloads that failed.
    pub reload_errors: u64,
    /// Why the last reload failed; None if it took effect.
    pub reload_error: Option<String>,
    /// For each file whose change is held back as half-written: its path and the reason.
    #[serde(default)]
    pub held_files: Vec<String>,
    /// The view of the cluster; None without `EnableK8S`.
    pub sync: Option<SyncReply>,
    /// Why the daemon is not ready; None if it is.
    pub not_ready: Option<String>,
    /// Version of the daemon.
    pub version: String,
    /// Pid of the daemon, in its own PID namespace.
    pub pid: u32,
    /// Start of the daemon, in seconds since the Unix epoch.
    pub start_time_seconds: u64,
    /// Seconds since the start of the daemon.
    pub uptime_seconds: u64,
    /// Events that were lost because the ring was full during a trace.
    pub events_lost: u64,
    /// Whether `edns pause` is in effect.
    pub paused: bool,
}

/// An interface with the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReply {
    /// Name of the interface.
    pub name: String,
    /// Whether no program of another owner runs before eDNS.
    pub is_first: bool,
    /// The programs of other owners that run before eDNS, in order.
    pub in_front: Vec<InFrontReply>,
}

/// A program of another owner that runs before eDNS and may end the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFrontReply {
    /// BPF program id; None for a filter that is no BPF program.
    pub id: Option<u32>,
    /// Name of the filter on clsact; None on tcx.
    pub name: Option<String>,
    /// Priority of the filter on clsact; None on tcx.
    pub priority: Option<u16>,
}

/// Number of names that pass because the maps have no place for them, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedReply {
    /// Reason, named as in `edns_names_passed`.
    pub reason: String,
    /// Number of names.
    pub count: u64,
}

/// A namespace and the number of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderReply {
    /// Name of the namespace.
    pub namespace: String,
    /// Number of its names.
    pub names: u64,
    /// How many of them pass because the namespace exceeds its share of the maps.
    pub passing: u64,
    /// The Service or EndpointSlice with the most names; None if no name passes.
    pub largest: Option<String>,
}

/// The view of the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncReply {
    /// Whether the initial sync is done, so that the cluster zone is answered.
    pub synced: bool,
    /// Whether the view is current, so that negative answers are given.
    pub current: bool,
    /// Seconds since the view became stale; None if it is current.
    pub stale_seconds: Option<f64>,
    /// `MaxStale` with this node's random offset, in seconds; None: no limit.
    pub max_stale_seconds: Option<f64>,
    /// Whether the view has been stale for longer than that, so that all names of the cluster pass.
    #[serde(default)]
    pub expired: bool,
    /// The view of each kind of object.
    pub kinds: Vec<KindReply>,
}

/// The view of one kind of object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindReply {
    /// Kind, as in the paths of the API: `services`, `endpointslices`, `namespaces`.
    pub kind: String,
    /// Seconds since the last message of the API server.
    pub silent_seconds: f64,
    /// Seconds since the list or watch began to fail; None if it works.
    pub broken_seconds: Option<f64>,
    /// Number of lists and watches that failed.
    pub errors: u64,
    /// Number of lists that were read completely.
    pub lists: u64,
}

/// Number of queries with one outcome over one IP version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCount {
    /// Outcome, named as in `edns_queries_total`.
    pub outcome: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Number of queries.
    pub count: u64,
}

/// The control socket of the daemon with this config file. Its name has the stem of the config file, to be readable, and a hash of
/// its path, to be unique.
///
/// # Errors
/// If the folder of the config file does not exist.
pub fn socket_path(config: &Path) -> io::Result<PathBuf> {
    let config = config_path(config)?;
    let stem = config.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
    Ok(Path::new(RUN_DIR).join(format!("{stem}-{:016x}.sock", path_hash(&config))))
}

/// A hash of the config file's path, which identifies the daemon with this config.
///
/// # Errors
/// If the folder of the config file does not exist.
pub fn config_hash(config: &Path) -> io::Result<u64> {
    config_path(config).map(|p| path_hash(&p))
}

/// The canonical path of a config file. Resolves its folder, not the file: the file of a ConfigMap is a symbolic link whose target
/// changes with each update.
fn config_path(config: &Path) -> io::Result<PathBuf> {
    let name = config.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let folder = config.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(name))
}

/// FNV-1a, which never changes: a new version has to find the sockets and filters of an old one.
fn path_hash(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}
