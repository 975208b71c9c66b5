//! Raw netlink requests, for messages that rtnetlink's types don't cover or parse too strictly.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// A blocking connection for requests. A request waits for the RTNL lock while the kernel adds or removes interfaces.
pub(crate) struct Connection(Socket);

impl Connection {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends a request with NLM_F_DUMP or NLM_F_ACK, and calls `each` with the payload of every reply message.
    pub(crate) fn request<M: NetlinkSerializable>(
        &self,
        message: M,
        flags: u16,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        request.header.flags = NLM_F_REQUEST | flags;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.0.send(&octets, 0)?;
        // Read to the end also after an error: the next request would read the rest as its reply.
        let mut result = Ok(());
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            for message in messages(&datagram) {
                match message?.payload {
                    NetlinkPayload::InnerMessage(RawMessage { octets, .. }) if result.is_ok() => result = each(&octets),
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Done(d) if d.code < 0 => return Err(io::Error::from_raw_os_error(-d.code)),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return result,
                    _ => {}
                }
            }
        }
    }
}

/// The netlink messages of a datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<RawMessage>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<RawMessage>::deserialize(rest).map_err(io::Error::other);
        let length = message.as_ref().map_or(rest.len(), |m| m.header.length as usize);
        rest = rest.get(length.next_multiple_of(NLMSG_ALIGNTO as usize)..).unwrap_or_default();
        Some(message)
    })
}

/// A netlink message's type and raw payload.
pub(crate) struct RawMessage {
    pub kind: u16,
    pub octets: Vec<u8>,
}

impl NetlinkDeserializable for RawMessage {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self { kind: header.message_type, octets: payload.to_vec() })
    }
}

impl NetlinkSerializable for RawMessage {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.octets.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.octets);
    }
}
