//! Which programs of eDNS have a daemon that lives.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells others in this network namespace, where all are who see our programs, that the daemon with these programs lives: a
/// socket named after each, which takes nothing, and goes with the daemon however that ends.
#[derive(Default)]
pub(super) struct Alive(BTreeMap<u32, UnixDatagram>);

impl Alive {
    /// Before the program is attached.
    pub(super) fn say(&mut self, program_id: u32) -> io::Result<()> {
        if let Entry::Vacant(entry) = self.0.entry(program_id) {
            let socket = match UnixDatagram::bind_addr(&address(program_id)?) {
                // Somebody holds it, so we count as alive.
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Ok(()),
                socket => socket?,
            };
            socket.shutdown(Shutdown::Both)?;
            entry.insert(socket);
        }
        Ok(())
    }
}

/// Only ECONNREFUSED proves that there is no such daemon; any other error counts as alive.
pub(super) fn is_alive(program_id: u32) -> bool {
    let connected = address(program_id).and_then(|at| UnixDatagram::unbound()?.connect_addr(&at));
    connected.map_or_else(|e| e.kind() != io::ErrorKind::ConnectionRefused, |()| true)
}

fn address(program_id: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("edns/program/{program_id}"))
}
