//! The command's end.

use std::io::{self, BufRead, BufReader, IoSliceMut, Write};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde::de::DeserializeOwned;

use super::{Request, running, socket_path};

/// A daemon that runs answers at once; one that is stopped or hangs does not.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Octets of a reply that comes with a file descriptor.
const REPLY_MAX: usize = 4096;

/// Why the daemon gave no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The config file, which names the daemon, is not there.
    #[error("{0}: {1}")]
    Config(PathBuf, io::Error),
    /// Nobody listens. Last the daemons of other configs.
    #[error(
        "no daemon runs with {0} ({1}: {2}): start it with `edns run --config {0}`, or name its config with --config{others}",
        others = others(.3)
    )]
    NotRunning(PathBuf, PathBuf, io::Error, Vec<String>),
    /// The socket is root's, or that of who runs the daemon.
    #[error("no permission to ask the daemon with {0}: run as root, or as the daemon's user")]
    Permission(PathBuf),
    /// It broke off, or took too long.
    #[error("the daemon with {0} does not answer ({1}): is it stopped, or of another version?")]
    NoReply(PathBuf, io::Error),
    /// It refused.
    #[error("{0}")]
    Refused(String),
}

fn others(running: &[String]) -> String {
    if running.is_empty() { String::new() } else { format!("; these run: {}", running.join(", ")) }
}

/// Asks the daemon of `config`; calls `each` for every reply.
///
/// # Errors
/// [`ClientError`].
pub fn ask<T: DeserializeOwned>(config: &Path, request: &Request, mut each: impl FnMut(T)) -> Result<(), ClientError> {
    let stream = connect(config)?;
    exchange(&stream, request, &mut each)
        .map_err(|e| no_reply(config, e))?
        .map_or(Ok(()), |e| Err(ClientError::Refused(e)))
}

/// A socket whose time is over says "try again", which helps nobody.
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

/// Like [`ask`], for requests with one reply.
///
/// # Errors
/// [`ClientError`].
pub fn ask_one<T: DeserializeOwned>(config: &Path, request: &Request) -> Result<T, ClientError> {
    let mut reply = None;
    ask(config, request, |r| reply = Some(r))?;
    reply.ok_or_else(|| ClientError::NoReply(config.into(), io::ErrorKind::UnexpectedEof.into()))
}

/// Asks for a file descriptor. What was asked for holds for as long as the stream.
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
        // SAFETY: the kernel has just made it for us, and nobody else knows of it.
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

/// Returns the daemon's error where it sends one.
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
