//! Netlink notifications about filters and qdiscs. They only trigger a check, which reads the chains again.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::tc::TcHeader;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use crate::interfaces::netlink::{RawMessage, messages};

/// The interfaces whose filters or qdiscs changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Interfaces by ifindex.
    Of(Vec<u32>),
    /// Any interface: messages were lost.
    Any,
}

/// Listens to changes of clsact's filters. The kernel sends no notifications about tcx.
pub struct Messages(TokioSocket);

impl Messages {
    /// Starts to listen. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If netlink fails.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(MulticastGroup::Tc as u32)?;
        Ok(Self(socket))
    }

    /// Waits for the next change. Cancel safe: the future may be dropped and the method called again.
    ///
    /// # Errors
    /// If netlink fails.
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
        let Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(RawMessage { kind, octets }), .. }) = message
        else {
            return Changed::Any;
        };
        // Other messages are about chains, classes and actions.
        if matches!(kind, libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER | libc::RTM_NEWQDISC | libc::RTM_DELQDISC) {
            interfaces.extend(TcHeader::parse(&octets).map(|header| header.index as u32));
        }
    }
    Changed::Of(interfaces)
}
