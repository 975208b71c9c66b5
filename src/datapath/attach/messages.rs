//! The kernel's messages about filters and qdiscs. Like those about interfaces they are hints: what is there is read anew.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::tc::TcHeader;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use crate::interfaces::netlink::{Octets, messages};

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Filters or qdiscs of these interfaces, by number.
    Of(Vec<u32>),
    /// Any interface's may have: messages were lost.
    Any,
}

/// Messages about chains on clsact; the kernel has none about tcx.
pub struct Messages(TokioSocket);

impl Messages {
    /// Begins to listen. To be called within a runtime.
    ///
    /// # Errors
    /// Where netlink does not work.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(MulticastGroup::Tc as u32)?;
        Ok(Self(socket))
    }

    /// Waits for the next one. May be dropped and called again.
    ///
    /// # Errors
    /// Where netlink does not work any more.
    pub async fn next(&mut self) -> io::Result<Changed> {
        match self.0.recv_from_full().await {
            Ok((datagram, _)) => Ok(changed(&datagram)),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Changed::Any),
            Err(e) => Err(e),
        }
    }
}

fn changed(datagram: &[u8]) -> Changed {
    let mut interfaces = Vec::new();
    for message in messages(datagram) {
        let Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(Octets { kind, octets }), .. }) = message else {
            return Changed::Any;
        };
        // Others are of chains as such, of classes and actions.
        if matches!(kind, libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER | libc::RTM_NEWQDISC | libc::RTM_DELQDISC) {
            interfaces.extend(TcHeader::parse(&octets).map(|header| header.index as u32));
        }
    }
    Changed::Of(interfaces)
}
