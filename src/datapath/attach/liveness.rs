//! Tells programs of running daemons from those of dead ones.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Announces that the daemon of some programs is running: it binds an abstract Unix socket named after each program's ID. The
/// kernel closes the sockets when the daemon exits or is killed. They are visible in this network namespace, as the
/// programs' interfaces are.
#[derive(Default)]
pub(super) struct Liveness(BTreeMap<u32, UnixDatagram>);

impl Liveness {
    /// Announces a program. Call it before the program is attached.
    pub(super) fn announce(&mut self, program_id: u32) -> io::Result<()> {
        if let Entry::Vacant(entry) = self.0.entry(program_id) {
            let socket = match UnixDatagram::bind_addr(&address(program_id)?) {
                // Another process holds the socket, so the program already counts as alive.
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Ok(()),
                socket => socket?,
            };
            socket.shutdown(Shutdown::Both)?;
            entry.insert(socket);
        }
        Ok(())
    }
}

/// Whether the daemon of a program is running. Only ECONNREFUSED proves it dead; any other error counts as alive.
pub(super) fn is_alive(program_id: u32) -> bool {
    let connected = address(program_id).and_then(|at| UnixDatagram::unbound()?.connect_addr(&at));
    connected.map_or_else(|e| e.kind() != io::ErrorKind::ConnectionRefused, |()| true)
}

fn address(program_id: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("edns/program/{program_id}"))
}
