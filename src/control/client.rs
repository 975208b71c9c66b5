//! The client side of the control socket, which the commands use.

use std::io::{self, BufRead, BufReader, IoSliceMut, Write};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde::de::DeserializeOwned;

use super::{Request, TIMEOUT, running, socket_path};

/// Maximum size, in bytes, of a reply that carries a file descriptor.
const REPLY_MAX: usize = 4096;

/// Why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The folder of the config file, whose path identifies the daemon, does not exist.
    #[error("{0}: {1}")]
    Config(PathBuf, io::Error),
    /// No daemon listens on the socket. The last field describes the daemons of other configs.
    #[error(
        "no daemon runs with {0} ({1}: {2}); start it with `edns run --config {0}`, or name another config with --config{others}",
        others = others(.3)
    )]
    NotRunning(PathBuf, PathBuf, io::Error, Vec<String>),
    /// The socket belongs to another user.
    #[error("no permission to connect to the daemon with {0}; run as root, or as the daemon's user")]
    Permission(PathBuf),
    /// The connection broke, or the reply took more than 5 s.
    #[error("the daemon with {0} does not answer ({1}): is it stopped, or of another version?")]
    NoReply(PathBuf, io::Error),
    /// The daemon refused the request, for this reason.
    #[error("{0}")]
    Refused(String),
}

fn others(running: &[String]) -> String {
    if running.is_empty() { String::new() } else { format!("; these run: {}", running.join("; ")) }
}

/// Sends a request to the daemon with this config file; calls `each` with every reply.
///
/// # Errors
/// [`ClientError`].
pub fn ask<T: DeserializeOwned>(config: &Path, request: &Request, mut each: impl FnMut(T)) -> Result<(), ClientError> {
    let stream = connect(config)?;
    exchange(&stream, request, &mut each)
        .map_err(|e| no_reply(config, e))?
        .map_or(Ok(()), |e| Err(ClientError::Refused(e)))
}

/// Turns the EAGAIN of a socket time-out into `TimedOut`, whose text says what happened.
fn no_reply(config: &Path, error: io::Error) -> ClientError {
    let is_late = error.kind() == io::ErrorKind::WouldBlock;
    ClientError::NoReply(config.into(), if is_late { io::ErrorKind::TimedOut.into() } else { error })
}

fn connect(config: &Path) -> Result<UnixStream, ClientError> {
    let socket = socket_path(config).map_err(|e| ClientError::Config(config.into(), e))?;
    running::connect(&socket).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => no_reply(config, e),
        io::ErrorKind::PermissionDenied => ClientError::Permission(config.into()),
        _ => ClientError::NotRunning(config.into(), socket, e, running::all()),
    })
}

/// Like [`ask`], for a request with exactly one reply.
///
/// # Errors
/// [`ClientError`].
pub fn ask_one<T: DeserializeOwned>(config: &Path, request: &Request) -> Result<T, ClientError> {
    let mut reply = None;
    ask(config, request, |r| reply = Some(r))?;
    reply.ok_or_else(|| ClientError::NoReply(config.into(), io::ErrorKind::UnexpectedEof.into()))
}

/// Sends a request whose reply carries a file descriptor. The daemon ends what was requested when the stream is closed.
///
/// # Errors
/// [`ClientError`].
pub fn ask_fd(config: &Path, request: &Request) -> Result<(UnixStream, OwnedFd), ClientError> {
    let stream = connect(config)?;
    match send(&stream, request).and_then(|()| receive_fd(&stream)).map_err(|e| no_reply(config, e))? {
        Ok(fd) => Ok((stream, fd)),
        Err(error) => Err(ClientError::Refused(error)),
    }
}

fn receive_fd(stream: &UnixStream) -> io::Result<Result<OwnedFd, String>> {
    let mut line = [0; REPLY_MAX];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut text = [IoSliceMut::new(&mut line)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut text, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let fd = message.cmsgs()?.find_map(|m| match m {
        // SAFETY: the kernel made this descriptor for this message; nothing else in the process owns it.
        ControlMessageOwned::ScmRights(fds) => fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }),
        _ => None,
    });
    let len = message.bytes;
    match (serde_json::from_slice::<Result<(), String>>(&line[..len])?, fd) {
        (Ok(()), Some(fd)) => Ok(Ok(fd)),
        (Ok(()), None) => Err(io::ErrorKind::UnexpectedEof.into()),
        (Err(error), _) => Ok(Err(error)),
    }
}

/// Sends a request and reads the replies. Returns the error text that the daemon sends, if it sends one.
fn exchange<T: DeserializeOwned>(
    stream: &UnixStream,
    request: &Request,
    each: &mut impl FnMut(T),
) -> io::Result<Option<String>> {
    send(stream, request)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Ok(reply) => each(reply),
            Err(error) => return Ok(Some(error)),
        }
    }
    Ok(None)
}

fn send(mut stream: &UnixStream, request: &Request) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    serde_json::to_writer(stream, request)?;
    stream.write_all(b"\n")
}
