//! Finds the daemons that run on this machine, by their sockets.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, getsockopt, socket};

use super::{RUN_DIR, socket_path};

/// Config files that edns tries, in this order, without --config. A relative path starts at the working directory.
pub const USUAL_CONFIGS: [&str; 2] = ["configs/config.yaml", "/etc/edns/config.yaml"];

/// Whether a daemon runs with this config file. Also true if only the daemon's user may connect to its socket.
#[must_use]
pub fn is_running(config: &Path) -> bool {
    let connected = socket_path(config).and_then(|path| connect(&path));
    let may_be = |e: io::Error| matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::WouldBlock);
    connected.map_or_else(may_be, |_| true)
}

/// Connects to a daemon's socket.
///
/// # Errors
/// The errors of connect(2). Does not wait for a daemon that accepts no connections, because it is stopped or hangs: `WouldBlock`.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_to(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The pid, in this PID namespace, of the process that listens on a socket. 0 if that process is in another PID namespace, or
/// accepts no connections; None if no process listens.
#[must_use]
pub fn pid_at(socket: &Path) -> Option<i32> {
    match connect(socket) {
        Ok(stream) => getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid()),
        Err(e) => (e.kind() == io::ErrorKind::WouldBlock).then_some(0),
    }
}

/// A description of each running daemon: pid, command line, and the `--config` option that reaches it where that can be found.
#[must_use]
pub fn all() -> Vec<String> {
    let sockets = fs::read_dir(RUN_DIR).into_iter().flatten().flatten();
    let mut daemons: Vec<_> = sockets.filter_map(|s| Some((pid_at(&s.path())?, s.path()))).collect();
    daemons.sort();
    daemons.into_iter().map(|(pid, socket)| describe(pid, &socket)).collect()
}

fn describe(pid: i32, socket: &Path) -> String {
    if pid == 0 {
        return "one whose pid is unknown (stopped, or in another PID namespace)".into();
    }
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let args: Vec<&[u8]> = cmdline.split(|b| *b == 0).filter(|a| !a.is_empty()).collect();
    // A process chooses its own command line: control characters must not reach the terminal.
    let printable = |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
    let command = printable(&String::from_utf8_lossy(&args.join(&b' ')));
    let mut text = if command.is_empty() { format!("pid {pid}") } else { format!("pid {pid} ({command})") };
    if let Some(config) = config_of(pid, &args, socket) {
        text += &format!(": --config {}", printable(&config.display().to_string()));
    }
    text
}

/// The config file of the daemon that listens on `socket`, as an absolute path, from its command line. None if no path there belongs
/// to this socket: the daemon is in another mount namespace, or has changed its command line.
fn config_of(pid: i32, args: &[&[u8]], socket: &Path) -> Option<PathBuf> {
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let path = |octets: &[u8]| PathBuf::from(OsString::from_vec(octets.into()));
    let separate = args.windows(2).filter(|w| [&b"--config"[..], b"-c"].contains(&w[0])).map(|w| path(w[1]));
    let joined = args.iter().filter_map(|a| a.strip_prefix(b"--config=").or_else(|| a.strip_prefix(b"-c"))).map(path);
    let mut configs = separate.chain(joined).chain(USUAL_CONFIGS.map(PathBuf::from)).map(|config| folder.join(config));
    configs.find(|config| socket_path(config).is_ok_and(|path| path == socket))
}
