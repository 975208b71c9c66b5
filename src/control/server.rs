//! The daemon's end.

use std::fs;
use std::io;
use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::running::{connect, pid_at};
use super::{Request, socket_path};

/// A request is a line of a few hundred octets.
const REQUEST_MAX: u64 = 4096;
/// A command that says nothing, or does not read its reply, is given up.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Listens; removes its socket when dropped, unless another daemon has taken it over.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    predecessor: Option<i32>,
}

impl Server {
    /// Takes the place of a daemon with the same config, if there is one: from now on commands reach this one.
    ///
    /// # Errors
    /// Where the directory can't be made or written.
    pub fn bind(config: &Path) -> io::Result<Self> {
        Self::bind_at(socket_path(config)?)
    }

    fn bind_at(path: PathBuf) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        remove_dead(&path)?;
        let predecessor = pid_at(&path);
        // Bound beside and renamed, so that there is always somebody to talk to.
        let new = path.with_extension(std::process::id().to_string());
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&new)?.ino();
        fs::rename(&new, &path)?;
        Ok(Self { listener, path, inode, predecessor })
    }

    /// The process whose place it has taken; 0 where that is in another PID namespace.
    #[must_use]
    pub const fn predecessor(&self) -> Option<i32> {
        self.predecessor
    }

    /// Binds again where the socket is gone: another daemon took it over, and ended.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn ensure(&mut self) -> io::Result<()> {
        if !fs::exists(&self.path)? {
            *self = Self::bind_at(self.path.clone())?;
        }
        Ok(())
    }

    /// The next command.
    ///
    /// # Errors
    /// The system call's, such as too many open files: to be tried again later.
    pub async fn accept(&self) -> io::Result<Connection> {
        self.listener.accept().await.map(|(stream, _)| Connection(stream))
    }
}

/// Removes what daemons left that were killed before they could rename their socket: nobody listens there.
fn remove_dead(path: &Path) -> io::Result<()> {
    for file in fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
        let file = file?.path();
        let is_dead = || connect(&file).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if file != path && file.file_stem() == path.file_stem() && is_dead() {
            let _ = fs::remove_file(file);
        }
    }
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A command that waits for its reply.
pub struct Connection(UnixStream);

impl Connection {
    /// What it asks.
    ///
    /// # Errors
    /// Where it says nothing in time, or nothing that this version understands; that is said to it.
    pub async fn request(&mut self) -> io::Result<Request> {
        let mut line = String::new();
        let mut reader = BufReader::new((&mut self.0).take(REQUEST_MAX));
        tokio::time::timeout(TIMEOUT, reader.read_line(&mut line)).await??;
        match serde_json::from_str(&line) {
            Ok(request) => Ok(request),
            Err(e) => {
                self.error(&format!("this daemon ({}) does not know the request: {e}", env!("CARGO_PKG_VERSION")))
                    .await?;
                Err(e.into())
            }
        }
    }

    /// Sends replies.
    ///
    /// # Errors
    /// Where the command is gone or does not read.
    pub async fn reply<T: Serialize>(&mut self, replies: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut text = Vec::new();
        for reply in replies {
            serde_json::to_writer(&mut text, &Ok::<_, ()>(reply))?;
            text.push(b'\n');
        }
        self.write(&text).await
    }

    /// Sends a reply that has nothing to say, and a file descriptor with it.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub async fn reply_with_fd(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Ok::<_, ()>(()))?;
        text.push(b'\n');
        let fds = [fd.as_raw_fd()];
        let send = || {
            let control = [ControlMessage::ScmRights(&fds)];
            let (socket, text) = (self.0.as_raw_fd(), [IoSlice::new(&text)]);
            // So few octets are sent whole, or not at all.
            sendmsg::<()>(socket, &text, &control, MsgFlags::MSG_NOSIGNAL, None).map_err(io::Error::from)
        };
        tokio::time::timeout(TIMEOUT, self.0.async_io(Interest::WRITABLE, send)).await??;
        Ok(())
    }

    /// Returns when the command has gone.
    pub async fn closed(&mut self) {
        while self.0.read_u8().await.is_ok() {}
    }

    /// Refuses.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub async fn error(&mut self, error: &str) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Err::<(), _>(error))?;
        text.push(b'\n');
        self.write(&text).await
    }

    async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        tokio::time::timeout(TIMEOUT, self.0.write_all(text)).await?
    }
}
