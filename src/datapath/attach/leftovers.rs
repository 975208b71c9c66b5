//! Filters on clsact of daemons that were killed. The next one with the same config replaces them where it attaches; where its
//! priority, direction or interfaces are others by now, they are looked for and taken away.

use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use rtnetlink::{Error, Handle};

/// What our programs' names begin with.
const PROGRAM_PREFIX: &str = "edns_";

/// Tells others in this network namespace, where all are who see our filters, that the daemon with these programs lives: a
/// socket named after each, which takes nothing, and goes with the daemon however that ends.
#[derive(Default)]
pub(super) struct Alive(BTreeMap<u32, UnixDatagram>);

impl Alive {
    /// Before a filter runs the program.
    pub(super) fn say(&mut self, program: BorrowedFd<'_>) -> io::Result<()> {
        if let Entry::Vacant(entry) = self.0.entry(program_id(program)?) {
            let address = address(*entry.key())?;
            let socket = match UnixDatagram::bind_addr(&address) {
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

/// Nothing but that nobody is there tells that a daemon is dead.
fn is_alive(program_id: u32) -> bool {
    let connected = address(program_id).and_then(|at| UnixDatagram::unbound()?.connect_addr(&at));
    connected.map_or_else(|e| e.kind() != io::ErrorKind::ConnectionRefused, |()| true)
}

fn address(program_id: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("edns/program/{program_id}"))
}

fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: info lives through the call and has the size given.
    let ret = unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) };
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(info.id) }
}

/// Takes away what dead daemons of this config, whose filters have this handle, left on an interface. Returns how many
/// filters that were.
pub(super) async fn remove(netlink: &Handle, ifindex: u32, handle: u32) -> Result<usize, Error> {
    let mut removed = 0;
    let get = || netlink.traffic_filter(ifindex as i32).get();
    for get in [get().ingress(), get().egress()] {
        let filters: Vec<TcMessage> = get.execute().try_collect().await?;
        for filter in filters.into_iter().filter(|f| is_leftover(f, handle)) {
            remove_filter(netlink.clone(), filter).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// One of our programs', by its name and handle, and of nobody who lives.
fn is_leftover(filter: &TcMessage, handle: u32) -> bool {
    let options = filter.attributes.iter().filter_map(|a| if let TcAttribute::Options(o) = a { Some(o) } else { None });
    let (mut is_ours, mut is_dead) = (false, false);
    for option in options.flatten() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => is_ours = name.starts_with(PROGRAM_PREFIX),
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => is_dead = !is_alive(*id),
            _ => {}
        }
    }
    filter.header.handle == TcHandle::from(handle) && is_ours && is_dead
}

/// By all that tells it from others: with interface, parent, priority and handle.
async fn remove_filter(mut netlink: Handle, filter: TcMessage) -> Result<(), Error> {
    let filter = TcMessage::from_parts(filter.header, Vec::new());
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelTrafficFilter(filter));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    match netlink.request(request)?.next().await.map(|reply| reply.payload) {
        // It is gone with its interface, or somebody was faster.
        Some(NetlinkPayload::Error(e)) if e.code.is_some() && !matches!(-e.raw_code(), libc::ENOENT | libc::ENODEV) => {
            Err(Error::NetlinkError(e))
        }
        _ => Ok(()),
    }
}
