//! Daemons that run on this machine, found by their sockets.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, getsockopt, socket};

use super::{RUN_DIR, socket_path};

/// Whether the daemon with this config file runs; true also where nobody but its user may know.
#[must_use]
pub fn is_running(config: &Path) -> bool {
    let connected = socket_path(config).and_then(|path| connect(&path));
    let may_be = |e: io::Error| matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::WouldBlock);
    connected.map_or_else(may_be, |_| true)
}

/// Connects to a daemon's socket.
///
/// # Errors
/// As connect(2); `WouldBlock` where the daemon takes no connections, being stopped or hung: that is not waited for.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_to(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The process that listens at this socket, as this PID namespace numbers it; 0 where it is none of this namespace's, or can't
/// be asked. None where nobody listens.
#[must_use]
pub fn pid_at(socket: &Path) -> Option<i32> {
    match connect(socket) {
        Ok(stream) => getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()),
        Err(e) => (e.kind() == io::ErrorKind::WouldBlock).then_some(0),
    }
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
        return "one that tells no pid".into();
    }
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // Whatever a process calls itself, a terminal gets no control characters.
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let command: String = String::from_utf8_lossy(&command).trim_end_matches('\0').chars().map(printable).collect();
    if command.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({command})") }
}
