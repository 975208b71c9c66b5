//! Daemons that run on this machine, found by their sockets.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::{RUN_DIR, socket_path};

/// Whether the daemon with this config file runs; true also where nobody but its user may know.
#[must_use]
pub fn is_running(config: &Path) -> bool {
    let connected = socket_path(config).and_then(UnixStream::connect);
    connected.map_or_else(|e| e.kind() == io::ErrorKind::PermissionDenied, |_| true)
}

/// The process that listens at this socket, as this PID namespace numbers it; 0 where it is none of this namespace's. None where
/// nobody listens.
#[must_use]
pub fn pid_at(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid())
}

/// Process number and command line of each daemon that runs, of whichever config.
#[must_use]
pub fn all() -> Vec<String> {
    let sockets = fs::read_dir(RUN_DIR).into_iter().flatten().flatten();
    let mut pids: Vec<i32> = sockets.filter_map(|socket| pid_at(&socket.path())).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().map(describe).collect()
}

fn describe(pid: i32) -> String {
    if pid == 0 {
        return "one in another PID namespace".into();
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    if command.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({command})") }
}
