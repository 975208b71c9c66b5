//! The daemon's side of the control socket.

use std::fs;
use std::io;
use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::running::{connect, pid_at};
use super::{Request, TIMEOUT, socket_path};

/// Maximum size of a request, in bytes; real ones have a few hundred.
const REQUEST_MAX: u64 = 4096;

/// The listening socket. Dropping it removes the socket file, unless another daemon has replaced the file.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    predecessor: Option<i32>,
}

impl Server {
    /// Listens for commands. If another daemon listens with the same config, replaces its socket: commands reach this one from
    /// now on.
    ///
    /// # Errors
    /// If the folder can't be made or written.
    pub fn bind(config: &Path) -> io::Result<Self> {
        Self::bind_at(socket_path(config)?)
    }

    fn bind_at(path: PathBuf) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        remove_dead(&path)?;
        let predecessor = pid_at(&path);
        // Bound under another name and renamed: at every moment a daemon listens on the path.
        let new = path.with_extension(std::process::id().to_string());
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&new)?.ino();
        fs::rename(&new, &path)?;
        Ok(Self { listener, path, inode, predecessor })
    }

    /// Pid of the daemon whose socket this one replaced; 0 if its pid is unknown (stopped, or in another PID namespace).
    #[must_use]
    pub const fn predecessor(&self) -> Option<i32> {
        self.predecessor
    }

    /// Binds again if the socket file no longer exists: another daemon has replaced it and ended.
    ///
    /// # Errors
    /// If the folder can't be made or written.
    pub fn ensure(&mut self) -> io::Result<()> {
        if !fs::exists(&self.path)? {
            *self = Self::bind_at(self.path.clone())?;
        }
        Ok(())
    }

    /// Waits for the next command.
    ///
    /// # Errors
    /// The errors of accept(2), such as EMFILE; call it again later.
    pub async fn accept(&self) -> io::Result<Connection> {
        self.listener.accept().await.map(|(stream, _)| Connection(stream))
    }
}

/// Removes socket files of daemons that were killed before they renamed them.
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

/// The connection of a command that waits for its reply.
pub struct Connection(UnixStream);

impl Connection {
    /// Reads the request.
    ///
    /// # Errors
    /// If none comes in time, or this version does not know it; the command then gets an error as reply.
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
    /// If the command has ended or does not read.
    pub async fn reply<T: Serialize>(&mut self, replies: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut text = Vec::new();
        for reply in replies {
            serde_json::to_writer(&mut text, &Ok::<_, ()>(reply))?;
            text.push(b'\n');
        }
        self.write(&text).await
    }

    /// Sends null as reply, with a file descriptor.
    ///
    /// # Errors
    /// If the command has ended or does not read.
    pub async fn reply_with_fd(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Ok::<_, ()>(()))?;
        text.push(b'\n');
        let fds = [fd.as_raw_fd()];
        let send = || {
            let control = [ControlMessage::ScmRights(&fds)];
            let (socket, text) = (self.0.as_raw_fd(), [IoSlice::new(&text)]);
            // A message this short is sent completely or not at all.
            sendmsg::<()>(socket, &text, &control, MsgFlags::MSG_NOSIGNAL, None).map_err(io::Error::from)
        };
        tokio::time::timeout(TIMEOUT, self.0.async_io(Interest::WRITABLE, send)).await??;
        Ok(())
    }

    /// Returns when the command has closed the connection.
    pub async fn closed(&mut self) {
        while self.0.read_u8().await.is_ok() {}
    }

    /// Sends an error as reply.
    ///
    /// # Errors
    /// If the command has ended or does not read.
    pub async fn error(&mut self, error: &str) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Err::<(), _>(error))?;
        text.push(b'\n');
        self.write(&text).await
    }

    async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        tokio::time::timeout(TIMEOUT, self.0.write_all(text)).await?
    }
}
