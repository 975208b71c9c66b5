//! Nexthop objects. A route may name one instead of an interface (`ip route add default nhid 1`). With
//! `net.ipv4.nexthop_compat_mode=0` the kernel then reports no interface for the route, and sends no RTM_NEWROUTE when the object
//! changes.

use std::io;

use futures_util::Stream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{DefaultNla, Emitable as _, NLM_F_ACK, NlasIterator, parse_u32};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use super::netlink::{Connection, RawMessage};

// <linux/rtnetlink.h> and <linux/nexthop.h>
const RTM_GETNEXTHOP: u16 = 106;
/// Octets of a `struct nhmsg`.
const NHMSG: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
/// Octets of a `struct nexthop_grp`, which begins with the ID of a nexthop.
const GROUP_MEMBER: usize = 8;

/// A nexthop object: its interface, or for a group the IDs of its members.
#[derive(Debug, Default, PartialEq, Eq)]
struct NextHop {
    interfaces: Vec<u32>,
    members: Vec<u32>,
}

impl NextHop {
    /// Parses the payload of an RTM_NEWNEXTHOP message.
    fn parse(octets: &[u8]) -> io::Result<Self> {
        let mut hop = Self::default();
        for attribute in NlasIterator::new(octets.get(NHMSG..).unwrap_or_default()) {
            let attribute = attribute.map_err(io::Error::other)?;
            match attribute.kind() {
                NHA_OIF => hop.interfaces.push(parse_u32(attribute.value()).map_err(io::Error::other)?),
                NHA_GROUP => {
                    let members = attribute.value().chunks_exact(GROUP_MEMBER);
                    hop.members.extend(members.filter_map(|m| parse_u32(&m[..4]).ok()));
                }
                _ => {}
            }
        }
        Ok(hop)
    }
}

/// The interfaces (ifindex) of the nexthops with these IDs. Deleted nexthops have none. Blocks as [`Connection`] does.
pub(super) fn interfaces(mut hops: Vec<u32>) -> io::Result<Vec<u32>> {
    let connection = Connection::open()?;
    let mut interfaces = Vec::new();
    while let Some(id) = hops.pop() {
        let id = DefaultNla::new(NHA_ID, id.to_ne_bytes().into());
        let mut octets = vec![0; NHMSG + id.buffer_len()];
        id.emit(&mut octets[NHMSG..]);
        let reply = connection.request(RawMessage { kind: RTM_GETNEXTHOP, octets }, NLM_F_ACK, |octets| {
            let mut hop = NextHop::parse(octets)?;
            interfaces.append(&mut hop.interfaces);
            // The kernel allows no group in a group.
            hops.append(&mut hop.members);
            Ok(())
        });
        match reply {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            reply => reply?,
        }
    }
    Ok(interfaces)
}

/// A stream with one item whenever nexthops may have changed. Call it within a tokio runtime.
pub(super) fn changes() -> io::Result<impl Stream<Item = ()>> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(MulticastGroup::Nexthop as u32)?;
    Ok(futures_util::stream::unfold(socket, async |socket| match socket.recv_from_full().await {
        Ok(_) => Some(((), socket)),
        Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Some(((), socket)),
        Err(_) => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_an_interface_or_members() {
        let message = |attributes: &[DefaultNla]| {
            let mut octets = vec![2, 253, 0, 0, 0, 0, 0, 0];
            octets.resize(NHMSG + attributes.buffer_len(), 0);
            attributes.emit(&mut octets[NHMSG..]);
            octets
        };
        let number = |kind, n: u32| DefaultNla::new(kind, n.to_ne_bytes().into());
        let members = [[7, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 9, 0, 0, 0]].concat();
        for (attributes, interfaces, hops) in [
            (vec![number(NHA_ID, 1), number(NHA_OIF, 3)], vec![3], vec![]),
            (vec![number(NHA_ID, 2), DefaultNla::new(NHA_GROUP, members)], vec![], vec![7, 256]),
            (vec![number(NHA_ID, 3)], vec![], vec![]),
        ] {
            let hop = NextHop::parse(&message(&attributes)).unwrap();
            assert_eq!(hop, NextHop { interfaces, members: hops }, "{attributes:?}");
        }
    }
}
